"""Loading the adapter of a run, without trusting it."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from convlora.errors import InputError
from convlora.models import SegmentationModel
from convlora.models.build import adapter_config
from convlora.models.detail import CAME_LATER
from convlora.models.weight_files import read_shapes
from convlora.ordinary import ordinary
from convlora.runs.reading import first_line
from convlora.untrusted import UnreadableError, read_json

WEIGHTS = "adapter_model.safetensors"  # as PEFT calls them
_LARGEST_CONFIG = 1 << 20  # bytes


def load_adapter(base: SegmentationModel, folder: Path, method: Mapping[str, Any], adapt_last: int | None) -> PeftModel:
    """Puts the adapter of a run into its model.

    What is built follows from the run's settings, which are checked; `adapter_config.json` only has to agree with
    them. PEFT would follow it to the letter, which can mean gigabytes for a made-up rank, or modules to import. The
    sizes in the file of weights are compared before anything is made.

    Args:
        base: The SAM, or what was trained in its place; changed in place.
        folder: `RUN/adapter`.
        method: Name and options of the method, as in `config.yaml`.
        adapt_last: How many of the last blocks are adapted; None: what the method does by itself.

    Raises:
        InputError: If the files are damaged, do not belong together or do not fit the SAM.
    """
    options = {key: value for key, value in method.items() if key != "name"}
    config = adapter_config(base, str(method["name"]), options, adapt_last)
    weights, found = check_adapter(folder, config)
    config.inference_mode = True
    with torch.device("meta"):  # whose tensors take no memory, whatever size is claimed
        outline = get_peft_model(type(base)(cast("Any", base.config)), copy.deepcopy(config))
        needed = _needed(outline)
    later = _later(found, needed)
    different = difference(found | later, needed)
    if different is not None:
        raise InputError(
            f"{weights} does not fit the run: {different}. Restore the file, or give the model it was trained from "
            "with --model."
        )
    adapted = get_peft_model(base, config)
    set_peft_model_state_dict(adapted, load_file(ordinary(weights), device="cpu") | _zeros(later))
    return adapted


def check_adapter(folder: Path, config: PeftConfig, free: Collection[str] = ()) -> tuple[Path, dict[str, list[int]]]:
    """Checks that the files of an adapter are whole and belong to a run.

    Args:
        folder: `RUN/adapter`.
        config: What the settings of the run mean.
        free: What may be another one in `adapter_config.json`.

    Returns:
        The file of weights, and the names and sizes of what is in it.

    Raises:
        InputError: If a file is missing or damaged, or says something else than the settings.
    """
    _compare(folder / "adapter_config.json", config, free)
    weights = folder / WEIGHTS
    found = _shapes(weights)
    _compare_rank(weights, found, config)
    return weights, found


def load_weights(model: PeftModel, weights: Path) -> None:
    """Puts the weights in a file into a model that has its adapter already.

    PEFT's and transformers' own loaders take whatever they find in a folder: other files, pickles among them, and
    weights that replace those of the SAM.

    Args:
        model: The model.
        weights: A safetensors file as PEFT writes it. The sizes in it are compared before anything else is read.

    Raises:
        OSError: If it cannot be read.
        SafetensorError: If it is damaged.
        ValueError: If it does not fit.
    """
    found, needed = read_shapes(weights), _needed(model)
    later = _later(found, needed)
    different = difference(found | later, needed)
    if different is not None:  # PEFT would leave what is missing as it was drawn
        raise ValueError(f"{weights.name} does not fit: {different}")
    set_peft_model_state_dict(model, load_file(ordinary(weights), device="cpu") | _zeros(later))


def is_from_before(model: PeftModel, weights: Path) -> bool:
    """Whether a file of weights was written before a part of the model existed.

    Raises:
        OSError: If it cannot be read.
        SafetensorError: If it is damaged.
    """
    return bool(_later(read_shapes(weights), _needed(model)))


def _later(found: Mapping[str, list[int]], needed: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Names and sizes of what an adapter from before does without."""
    return {name: shape for name, shape in needed.items() if name.endswith(CAME_LATER) and name not in found}


def _zeros(shapes: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def saved_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """What is saved of a model, by the names that it has in files."""
    # PEFT would ask the Hub about a vocabulary, even that of a bundled SAM; there is none.
    saved: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return saved


def _needed(model: PeftModel) -> dict[str, list[int]]:
    """Names and sizes of what is saved of a model."""
    return {name: list(value.shape) for name, value in saved_weights(model).items()}


def difference(found: Mapping[str, list[int]], needed: Mapping[str, list[int]]) -> str | None:
    """In which tensors, by their names and sizes, something differs from what it should be, in words; None: in none."""
    different = sorted(name for name in needed.keys() | found.keys() if needed.get(name) != found.get(name))
    if not different:
        return None
    first = different[0]
    return (
        f"{len(different)} of {len(needed)} tensors are missing, unknown or of another size ({first[:120]}: "
        f"{found.get(first)} instead of {needed.get(first)})"
    )


def _compare(path: Path, config: PeftConfig, may_differ: Collection[str] = ()) -> None:
    """Refuses a configuration that is another one than the run's."""
    try:
        found = read_json(path, _LARGEST_CONFIG)
    except (OSError, UnreadableError) as error:
        raise InputError(f"{path} is missing or damaged ({first_line(error)}). Restore it from a copy.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is no table of settings. Restore it from a copy.")
    wanted = {key: _plain(value) for key, value in config.to_dict().items()}
    free = {"base_model_name_or_path", "auto_mapping", "inference_mode", "peft_version", "revision", "task_type"}
    free |= {*may_differ}
    for key, value in found.items():
        if key in free or _plain(value) == wanted.get(key):
            continue
        if key not in wanted and not value:  # a setting of another version of PEFT that is not in use
            continue
        told = f"{wanted[key]!r}" if key in wanted else "nothing of the kind"
        raise InputError(
            f"{path} says {key}={str(value)[:80]!r}, but config.yaml of the run means {told}. The two files do not "
            "belong to the same run; restore them from a copy."
        )


def _plain(value: Any) -> Any:
    """As JSON would give it back; sets in order."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return sorted(value) if all(isinstance(one, str) for one in value) else [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return getattr(value, "value", value)  # enumerations


def _shapes(path: Path) -> dict[str, list[int]]:
    """Names and sizes of the tensors in a file."""
    try:
        return read_shapes(path)
    except (OSError, SafetensorError, UnreadableError) as error:
        raise InputError(f"{path} is missing or damaged ({first_line(error)}). Restore it from a copy.") from error


def _compare_rank(path: Path, shapes: Mapping[str, list[int]], config: PeftConfig) -> None:
    """Refuses weights of another rank before any of the claimed one is made."""
    rank = getattr(config, "r", None)
    for name, shape in shapes.items():
        if rank is not None and name.endswith("lora_A.weight") and shape[:1] != [rank]:
            raise InputError(
                f"{path} has the rank {shape[0] if shape else 'of a number'}, but config.yaml of the run says {rank}. "
                "The two files do not belong to the same run; restore them from a copy."
            )
