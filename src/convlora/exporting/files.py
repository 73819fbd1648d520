"""Programs written to files, and run from them as another program would."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from convlora import __version__
from convlora.errors import InputError, RunError
from convlora.exporting.program import BATCH, INPUT, OUTPUT
from convlora.ordinary import open_ordinary
from convlora.storage import SOFTWARE

OPSET = 18  # what PyTorch's exporter is written for
LARGEST_ONNX = 1_900_000_000  # bytes of weights: a file of Protocol Buffers ends at 2 GiB
INSTALL = "pip install 'convlora[export]'"
_EXTRA = "convlora.json"


def check_onnx_is_there() -> None:
    """Checks that what writes and runs ONNX files is installed.

    Raises:
        InputError: If something is missing; the message says how to get it.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        missing = f"ONNX files need a package that is not installed ({error.name})"
        raise InputError(f"{missing}. Install what writes and runs them: {INSTALL}.") from error


def write_onnx(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes an ONNX file with all weights in it.

    Raises:
        InputError: If the weights are too large for one.
        RunError: If the exporter does not know an operation.
    """
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > LARGEST_ONNX:
        raise InputError(
            f"The model has {size / 1e9:.1f} GB of weights, and an ONNX file holds 2 GB at most. Export it with "
            "--precision fp16, or with --format torch."
        )
    open_size: Any = {INPUT: {0: BATCH}} if program.range_constraints else None
    try:
        with _quietly():
            made: Any = torch.onnx.export(
                program, (), dynamo=True, input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=open_size,
                opset_version=OPSET, verbose=False, optimize=True,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise RunError(
            f"This model cannot be written as an ONNX file ({cause[:200]}). Export it with --format torch."
        ) from error
    made.model.producer_name, made.model.producer_version = SOFTWARE, __version__
    made.model.metadata_props.update(metadata)
    made.save(path, external_data=False)


class OnnxFile:
    """An ONNX file, run by ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities `(B, K, H, W)` of images `(B, 3, H, W)`."""
        answer: np.ndarray = self._session.run([OUTPUT], {INPUT: images})[0]
        return answer


def write_torch(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a program of `torch.export`, with the metadata as a file in it."""
    program.example_inputs = None  # they would be a pickle in the file, and megabytes of zeros
    stream = io.BytesIO()
    with _quietly():
        torch.export.save(program, stream, extra_files={_EXTRA: json.dumps(dict(metadata))})
    path.write_bytes(stream.getbuffer())


class TorchFile:
    """A program of `torch.export`, loaded anew. Only for files of our own: PyTorch's loader trusts what it reads."""

    def __init__(self, path: Path) -> None:
        with _quietly():
            self._module = torch.export.load(path).module()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities `(B, K, H, W)` of images `(B, 3, H, W)`."""
        with torch.inference_mode():
            answer: np.ndarray = self._module(torch.from_numpy(images)).numpy()
        return answer


def is_own_file(path: Path) -> bool:
    """Whether a file is an earlier export, which may be replaced."""
    try:
        with open_ordinary(path) as file:
            # The producer comes near the beginning of an ONNX file: its field has the number 2, then length and name.
            if bytes([0x12, len(SOFTWARE)]) + SOFTWARE.encode() in file.read(32):
                return True
            with zipfile.ZipFile(file) as archive:
                return any(Path(name).name == _EXTRA for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's notes on packages that it would know, too, and on its own future."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
