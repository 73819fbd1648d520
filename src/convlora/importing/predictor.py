"""The files of a predictor of AutoGluon, read without running anything in them.

A predictor's folder holds `model.ckpt`, `config.yaml`, `assets.json` and several pickle files. The last are never
opened.

Source: AutoGluon, `multimodal/learners/base.py`, which writes them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from convlora.errors import InputError, is_out_of_memory, shown
from convlora.models.weight_files import check_archive, check_tensors
from convlora.ordinary import ordinary
from convlora.paths import expanded
from convlora.untrusted import UnreadableError, read_json, read_yaml

_CHECKPOINT = "model.ckpt"
_REMEDY = "Copy it again from the predictor's folder, or save the predictor again with AutoGluon."
_WRAPPERS = ("model.", "module.", "_orig_mod.")  # of Lightning, of distributed training, of torch.compile
_PARTS = ("vision_encoder.", "mask_decoder.", "prompt_encoder.", "shared_image_embedding.")


@dataclass
class Predictor:
    """What a predictor's files say.

    Attributes:
        checkpoint: The file of weights.
        settings: The content of `config.yaml`.
        assets: The content of `assets.json`; empty if there is none.
    """

    checkpoint: Path
    settings: dict[str, Any]
    assets: dict[str, Any]

    @property
    def config(self) -> Path:
        """The file of settings."""
        return self.checkpoint.parent / "config.yaml"

    @property
    def software(self) -> str:
        """AutoGluon, with its version if that is known."""
        version = self.assets.get("version")
        return f"AutoGluon {shown(version, longest=40)}" if isinstance(version, str) and version else "AutoGluon"


def read_predictor(source: str | os.PathLike[str]) -> Predictor:
    """Reads what is beside the weights of a predictor.

    Args:
        source: The folder of the predictor, or a file `.ckpt` of Lightning with `config.yaml` beside it.

    Raises:
        InputError: If it is neither, or a file is damaged.
    """
    path = expanded(source)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise InputError(f"There is no '{source}'. Give the folder of a predictor of AutoGluon, or its model.ckpt.")
    checkpoint = path / _CHECKPOINT if path.is_dir() else path
    if not checkpoint.is_file():
        raise InputError(
            f"'{path}' holds no {_CHECKPOINT}, so it is no predictor of AutoGluon. Give the folder that "
            "MultiModalPredictor has saved, or a .ckpt file."
        )
    config = checkpoint.parent / "config.yaml"
    if not config.is_file():
        raise InputError(
            f"There is no config.yaml beside '{checkpoint}', which says how the model was trained. Copy it there from "
            "the predictor's folder."
        )
    return Predictor(checkpoint, _table(config, read_yaml), _assets(checkpoint.parent / "assets.json"))


def _assets(path: Path) -> dict[str, Any]:
    return _table(path, read_json) if path.is_file() else {}


def _table(path: Path, read: Any) -> dict[str, Any]:
    try:
        content = read(path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror or error}). {_REMEDY}") from error
    except UnreadableError as error:
        raise InputError(f"'{path}' is damaged: {error}. {_REMEDY}") from error
    if not isinstance(content, dict):
        raise InputError(f"'{path}' is no table of settings. {_REMEDY}")
    return content


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads the weights of a SAM that AutoGluon has trained.

    Args:
        path: The file, of Lightning or with the weights alone.

    Returns:
        By name, without what Lightning and others put before it. They may lie on the disk still.

    Raises:
        InputError: If the file is damaged, needs code to be run, or holds something else.
    """
    check_archive(path, _REMEDY)
    content = _load(path)
    inner = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(inner, dict) or not all(isinstance(name, str) for name in inner):
        raise InputError(f"'{path}' does not hold a table of weights. {_REMEDY}")
    # Beside the model Lightning keeps what losses and scores need.
    of_model = [name for name in inner if name.startswith("model.")] or list(inner)
    weights = {_plain(name): inner[name] for name in of_model}
    other = next((name for name, value in weights.items() if not isinstance(value, torch.Tensor)), None)
    if other is not None or not any(name.startswith(_PARTS) for name in weights):
        named = shown(other if other is not None else next(iter(weights), "nothing"))
        raise InputError(
            f"'{path}' holds no weights of a SAM ({named}, for one). Give a predictor that segments with SAM."
        )
    check_tensors(weights, path, _REMEDY)
    return weights


def _load(path: Path) -> Any:
    try:
        return torch.load(ordinary(path), map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise
    try:
        return torch.load(ordinary(path), map_location="cpu", weights_only=True)  # of before there were archives
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"'{path}' cannot be read as plain tensors: it is damaged, or holds objects that need code to be run, "
            f"which convlora never does. {_REMEDY}"
        ) from error


def _plain(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name
