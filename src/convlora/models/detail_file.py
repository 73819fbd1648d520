"""The pretrained weights of detail branches, in files of their own beside a SAM, one for each size they begin at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from convlora.errors import InputError, shown
from convlora.models.bundled import resolve_bundled
from convlora.models.detail import FINEST, DetailBranch
from convlora.models.weight_files import read_shapes
from convlora.ordinary import ordinary
from convlora.untrusted import UnreadableError

NAMES = {FINEST["half"]: "detail.safetensors", FINEST["full"]: "detail-full.safetensors"}
_LEVEL = "finest"  # in the file's metadata
_STEM = "down.0.conv.0.weight"  # the convolution that sees the pixels
_FRESH = ("project.", "token_kernels", "half_project.", "half_token_kernels")  # begin at zero in every task


def settled_detail(detail: str, source: str | os.PathLike[str]) -> Literal["none", "half", "full"]:
    """What the setting `detail` means for a model: `auto` is `full` beside pretrained weights for it, else `half`.

    The full size is the better branch (`benchmarks/results/accuracy.md`). A step of ViT-B at 1024 pixels takes 1.5
    times the memory with it, so there it has to be asked for.

    Args:
        detail: `"auto"`, `"none"`, `"half"` or `"full"`.
        source: Name of a bundled model, folder or Hub id.
    """
    if detail == "auto":
        file = os.path.join(resolve_bundled(source), NAMES[FINEST["full"]])  # noqa: PTH118 - it may be too long a name
        return "full" if os.path.isfile(file) else "half"  # noqa: PTH113
    return cast('Literal["none", "half", "full"]', detail)


def save_detail(branch: DetailBranch, folder: Path) -> None:
    """Writes the weights in half precision, without the last layers, which are learned anew in every task."""
    weights = {
        name: value.detach().half().contiguous().cpu()
        for name, value in branch.state_dict().items()
        if not name.startswith(_FRESH)
    }
    save_file(weights, folder / NAMES[branch.finest], {_LEVEL: str(branch.finest)})


def load_detail(branch: DetailBranch, folder: str | os.PathLike[str]) -> bool:
    """Gives a fresh branch the weights that were saved beside a SAM.

    Args:
        branch: Its last layers stay as they are.
        folder: Folder of the SAM, on this disk.

    Returns:
        Whether there were any for a branch that begins at this size.

    Raises:
        InputError: If the file is damaged, or for a SAM of another size.
    """
    file = Path(folder) / NAMES[branch.finest]
    if not file.is_file():
        return False
    own: Mapping[str, torch.Tensor] = {
        name: value for name, value in branch.state_dict().items() if not name.startswith(_FRESH)
    }
    try:
        with safe_open(ordinary(file), "pt") as weights:
            if (weights.metadata() or {}).get(_LEVEL) != str(branch.finest):
                return False
            shapes = read_shapes(file)
            wanted = {name: list(value.shape) for name, value in own.items()}
            stem = wanted[_STEM][1]
            wanted[_STEM][1] = stem * 3 // branch.channels  # pretrained on red, green and blue, which come first
            wrong = sorted(name for name in shapes.keys() | wanted.keys() if shapes.get(name) != wanted.get(name))
            if wrong:
                raise InputError(
                    f"{file} does not fit this model ({shown(wrong[0])}, for one). Restore it, or remove it to begin "
                    "with a fresh detail branch."
                )
            values = {name: weights.get_tensor(name).to(own[name]) for name in own}
            values[_STEM] = F.pad(values[_STEM], (0, 0, 0, 0, 0, stem - wanted[_STEM][1]))
    except (SafetensorError, OSError, UnreadableError) as error:
        raise InputError(
            f"{file} is damaged ({shown(str(error))}). Restore it, or remove it to begin with a fresh detail branch."
        ) from error
    branch.load_state_dict(values, strict=False)
    return True
