"""Writing a trained run as a file that other programs run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from convlora.data.reading.bands import channels_of
from convlora.data.reading.volumes.slicing import Slicing
from convlora.errors import InputError
from convlora.exporting.agreement import compare, probe, require
from convlora.exporting.files import OnnxFile, TorchFile, check_onnx_is_there, is_own_file, write_onnx, write_torch
from convlora.exporting.metadata import Facts, metadata
from convlora.exporting.program import LARGEST_BATCH, network_of, program_of
from convlora.inference.segmenter import Segmenter
from convlora.inference.windows import LARGEST_OVERLAP, OVERLAP
from convlora.links import is_plain_file
from convlora.paths import expanded
from convlora.reporting import Logged, Reporter
from convlora.runs.folds import refuse_folds
from convlora.runs.hub import resolve_run
from convlora.runs.reading import read_settings
from convlora.storage import replacing_file

ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}
PRECISIONS = ("fp32", "fp16")


def export(
    run: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    format: str | None = None,
    batch: int | None = None,
    precision: str = "fp32",
    resolution_cm: float | None = None,
    tile_overlap: float | None = None,
    model: str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Writes a run as one file that needs neither convlora nor the SAM: an ONNX file, or a program of `torch.export`.

    The file takes RGB images from 0 to 1, `(B, 3, H, W)`, at the run's image size, and gives the probabilities of the
    classes, `(B, K, H, W)`. It is compared with the run before it gets its name.

    Args:
        run: The run folder that training wrote.
        output: The file. It ends in .onnx, or in .pt2 for the format `"torch"`. An earlier export is replaced.
        format: `"onnx"` or `"torch"`; None: by the ending of the file.
        batch: Images at a time; None: any number.
        precision: `"fp32"`, or `"fp16"` for the vision encoder, which halves the file.
        resolution_cm: Size of a pixel on the ground in the training images, in centimetres, for QGIS.
        tile_overlap: Overlap of neighbouring tiles in QGIS, as a share of a tile; None: 0.25.
        model: The SAM the run was trained from, if it has moved.
        reporter: Receives messages; default: they are logged.

    Returns:
        What was written, and under `largest_difference` how far its probabilities are from the run's, with the
        `mean_difference` and the share of `other_pixels`, whose most probable class is another one.

    Raises:
        InputError: If the run cannot be read, an option makes no sense, a package is missing, or the file exists and is
            none of ours.
        RunError: If the run cannot be exported, or the file does not agree with it.
    """
    reporter = Logged() if reporter is None else reporter
    folder, output = resolve_run(run), expanded(output)
    refuse_folds(folder, "convlora export")
    kind = _format(output, format)
    _check(kind, batch, precision, resolution_cm, tile_overlap)
    if os.path.lexists(output) and not (is_plain_file(output) and is_own_file(output)):
        raise InputError(f"{output} exists and was not made by convlora export. Choose another --output.")
    if kind == "onnx":
        check_onnx_is_there()
    segmenter = Segmenter.load(folder, model=model, device="cpu", precision="fp32")
    settings = read_settings(folder)
    facts = Facts(
        segmenter.classes,
        segmenter.image_size,
        str(settings["method"]["name"]),
        precision,
        resolution_cm,
        OVERLAP if tile_overlap is None else tile_overlap,
        settings["data"].get("window"),
        segmenter.intensity,
    )
    if facts.window is not None:
        reporter.message(
            f"Note: The run was trained on windows of {facts.window} pixels of the images. Cut such windows for the "
            "file; do not resize whole images for it."
        )
    if Slicing.of(settings["data"]).note_on_images() is not None:
        reporter.message(
            "Note: The run was trained on slices of volumes with data.value_range or data.neighbours (see its "
            "config.yaml). Prepare slices in the same way for the file."
        )
    if resolution_cm is not None and facts.image_size[0] != facts.image_size[1]:
        raise InputError(
            f"The run sees images of {facts.image_size[0]} x {facts.image_size[1]} pixels, and QGIS cuts squares. "
            "Leave out --resolution-cm, or train with a square --image-size."
        )
    reporter.message("Exporting, and comparing the file with the run ...")
    probes = probe(segmenter, batch)
    program = program_of(network_of(segmenter.model, facts.image_size, precision, segmenter.intensity), batch)
    with replacing_file(output) as temporary:
        (write_onnx if kind == "onnx" else write_torch)(program, temporary, metadata(facts))
        agreement = compare((OnnxFile if kind == "onnx" else TorchFile)(temporary), probes)
        require(agreement, precision)
    return {
        "run": str(run),
        "output": str(output),
        "format": kind,
        "precision": precision,
        "batch": batch,
        "image_size": list(facts.image_size),
        **({} if facts.window is None else {"window": facts.window}),
        "channels": channels_of(segmenter.intensity),
        "classes": list(facts.classes.names),
        "bytes": output.stat().st_size,
        "largest_difference": agreement.largest,
        "mean_difference": agreement.mean,
        "other_pixels": agreement.pixels,
    }


def _format(output: Path, chosen: str | None) -> str:
    """The format of a file.

    Raises:
        InputError: If there is no such format, or the file's ending is another one's.
    """
    if chosen is not None and chosen not in ENDINGS:
        raise InputError(f"--format must be one of {', '.join(ENDINGS)}, got '{chosen}'.")
    by_ending = next((name for name, ending in ENDINGS.items() if output.suffix.lower() == ending), None)
    if by_ending is None or (chosen is not None and by_ending != chosen):
        wanted = " or ".join(ENDINGS.values()) if chosen is None else ENDINGS[chosen]
        raise InputError(f"--output {output} must end in {wanted}.")
    return by_ending


def _check(
    kind: str, batch: int | None, precision: str, resolution_cm: float | None, tile_overlap: float | None
) -> None:
    """Refuses options out of range, and those without effect.

    Raises:
        InputError: If there is one.
    """
    if precision not in PRECISIONS:
        raise InputError(f"--precision must be one of {', '.join(PRECISIONS)}, got '{precision}'.")
    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise InputError(f"--batch must be a whole number from 1 to {LARGEST_BATCH}, got {batch}.")
    if resolution_cm is not None and not 0 < resolution_cm < float("inf"):
        raise InputError(f"--resolution-cm must be above 0, got {resolution_cm}.")
    if tile_overlap is not None and not 0 <= tile_overlap <= LARGEST_OVERLAP:
        raise InputError(f"--tile-overlap must be from 0 to {LARGEST_OVERLAP}, got {tile_overlap}.")
    for option, value in (("--resolution-cm", resolution_cm), ("--tile-overlap", tile_overlap)):
        if kind == "torch" and value is not None:
            raise InputError(f"{option} has no effect on a .pt2 file, which QGIS does not read. Leave it out.")
