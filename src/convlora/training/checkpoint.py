"""The state of a training run in a safetensors file: tensors as they are, everything else as JSON. No pickle."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from convlora.ordinary import ordinary


def save_state(path: Path, state: Any) -> None:
    """Writes nested dictionaries, lists, tuples, numbers, texts and tensors to one safetensors file.

    Raises:
        TypeError: If the state holds anything else.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _take_apart(state, tensors)
    # safetensors wants tensors that share no memory and holds none of no dimension in every version.
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path, {"tree": json.dumps(tree)})


def load_state(path: Path, check: Callable[[Any], None] = lambda outline: None) -> Any:
    """Reads what [`save_state`] wrote; tensors come to the CPU.

    Args:
        path: The file.
        check: Called first with the outline of the state, in which tensors and arrays have their sizes and no content
            (they are on PyTorch's `meta` device); what it raises ends the reading before memory is taken.
    """
    with safe_open(ordinary(path), framework="pt", device="cpu") as file:
        tree = json.loads(file.metadata()["tree"])
        check(_put_together(tree, lambda name: torch.empty(file.get_slice(name).get_shape(), device="meta")))
        return _put_together(tree, file.get_tensor)


def random_state() -> dict[str, Any]:
    """The state of every random generator in use."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Puts the random generators back into a state taken by [`random_state`]."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def _take_apart(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    # Plain values stand for themselves; everything else becomes {"<kind>": ...}.
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {"array": _take_apart(torch.from_numpy(value.astype(np.int64)), tensors), "type": str(value.dtype)}
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu()
        return {"tensor": name}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_take_apart(entry, tensors) for entry in value]}
    if isinstance(value, dict):
        # Optimizer states have numbers as keys, which JSON would turn into texts.
        return {"dict": [[_take_apart(key, tensors), _take_apart(entry, tensors)] for key, entry in value.items()]}
    raise TypeError(f"cannot save a {type(value).__name__} in a checkpoint")


def _put_together(tree: Any, tensor: Callable[[str], torch.Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensor(tree["tensor"])
    if "array" in tree:
        values: torch.Tensor = _put_together(tree["array"], tensor)
        return values if values.is_meta else values.numpy().astype(tree["type"])
    if "list" in tree:
        return [_put_together(entry, tensor) for entry in tree["list"]]
    if "tuple" in tree:
        return tuple(_put_together(entry, tensor) for entry in tree["tuple"])
    return {_put_together(key, tensor): _put_together(entry, tensor) for key, entry in tree["dict"]}
