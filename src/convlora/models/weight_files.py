"""Files of weights, checked before memory is taken for what they claim to hold."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from convlora.errors import InputError, shown
from convlora.ordinary import ordinary
from convlora.untrusted import UnreadableError

_FLOATING = ("F64", "F32", "F16", "BF16")  # as safetensors calls them
_SMALLEST = 2  # bytes of a weight
_SLACK = 1 << 26  # bytes that a wrong claim may take
_META = "Give one of Meta's sam_vit_*.pth files."
_META_AS_IT_IS = "Give one of Meta's sam_vit_*.pth files as it is."


def read_shapes(path: Path) -> dict[str, list[int]]:
    """Names and sizes of the weights in a safetensors file. Only the header is read.

    Raises:
        OSError: If it cannot be read.
        SafetensorError: If it is damaged.
        UnreadableError: If something in it is no floating-point number, as all weights are.
    """
    shapes = {}
    with safe_open(ordinary(path), framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 - no dict
            held = file.get_slice(name)
            if held.get_dtype() not in _FLOATING:
                raise UnreadableError(f"{shown(name)} is of the type {shown(held.get_dtype())}, and no weight is")
            shapes[name] = list(held.get_shape())
    return shapes


def check_claims(
    kind: type[PreTrainedModel], source: str | os.PathLike[str], unused: tuple[str, ...], subfolder: str = ""
) -> None:
    """Refuses a folder whose configuration describes far more weights than its files can hold, or whole numbers.

    transformers would make all of the weights before it notices that they are missing, and take whole numbers for
    weights. Files from the Hub are not checked.

    Args:
        kind: The model.
        source: The folder.
        unused: Beginnings of the names of weights that may be missing.
        subfolder: In which the files are.

    Raises:
        InputError: If it is one.
    """
    folder = Path(source) / subfolder
    if not folder.is_dir():
        return
    for file in folder.glob("*.safetensors"):
        try:
            read_shapes(file)
        except UnreadableError as error:
            raise InputError(f"{file} cannot be used: {error}. Download it again, or give another model.") from error
        except (OSError, SafetensorError):
            continue  # loading it reports that
    there = sum(file.stat().st_size for end in ("safetensors", "bin") for file in folder.glob(f"*.{end}"))
    try:
        with torch.device("meta"):
            model = kind(kind.config_class.from_pretrained(folder))
    except Exception:  # loading it reports settings that make no sense
        return
    described = sum(value.numel() for name, value in model.state_dict().items() if not name.startswith(unused))
    if _SMALLEST * described > there + _SLACK:
        raise InputError(
            f"config.json of '{source}' describes {described:,} weights, but the files beside it have {there:,} bytes. "
            "Download it again, or give another model."
        )


def check_archive(path: str | os.PathLike[str], remedy: str = _META_AS_IT_IS) -> None:
    """Refuses a file of `torch.save` that is compressed, as PyTorch never writes it: a small one can hold gigabytes.

    Args:
        path: The file.
        remedy: What to do, for the message.

    Raises:
        InputError: If it is one.
    """
    try:
        with zipfile.ZipFile(ordinary(Path(path))) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the old format is none
    size = Path(path).stat().st_size
    if any(one.compress_type != zipfile.ZIP_STORED for one in members) or sum(one.file_size for one in members) > size:
        raise InputError(f"'{path}' is compressed or damaged. {remedy}")


def check_tensors(weights: Mapping[str, torch.Tensor], path: str | os.PathLike[str], remedy: str = _META) -> None:
    """Refuses weights that are no floating-point numbers, or larger than their file: one number can stand for many.

    Args:
        weights: By name.
        path: The file, for messages.
        remedy: What to do, for the message.

    Raises:
        InputError: If there are such.
    """
    for name, value in weights.items():
        if not value.is_floating_point():
            raise InputError(
                f"'{path}' holds {shown(name)} of the type {value.dtype}, but weights are floating-point numbers. "
                f"{remedy}"
            )
    claimed, size = sum(value.numel() * value.element_size() for value in weights.values()), Path(path).stat().st_size
    if claimed > size:
        raise InputError(f"'{path}' has {size:,} bytes, but its tensors would take {claimed:,}. {remedy}")
