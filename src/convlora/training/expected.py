"""What the files of a checkpoint must hold to belong to a run; compared before any of it is read into memory."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import torch
from torch import nn

from convlora.runs.adapters import difference
from convlora.training.checkpoint import random_state


def check_optimizer(state: Any, optimizer: torch.optim.Optimizer, names: Mapping[int, str] | None) -> None:
    """Compares the outline of a stored state of an optimizer with what it works on.

    PyTorch would take over moments of any size, and fail in the first step, or not at all.

    Args:
        state: As of [`convlora.training.checkpoint.load_state`].
        optimizer: What is to go on from it.
        names: Names of the parameters by `id`, where the state knows them by name; None: it knows them by number.

    Raises:
        ValueError: If they do not belong together.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    sizes: dict[Hashable, torch.Size] = {
        number if names is None else names[id(parameter)]: parameter.shape
        for number, parameter in enumerate(parameters)
    }
    for key, entry in state["state"].items():
        for name, value in entry.items():
            if isinstance(value, torch.Tensor) and value.shape not in (torch.Size(), sizes.get(key)):
                raise ValueError(f"the optimizer's {name} of {key} is {list(value.shape)}")
    if unknown := [key for key in state["state"] if key not in sizes]:
        raise ValueError(f"the optimizer knows no parameter {unknown[0]}")


def trained_names(model: nn.Module) -> list[str]:
    """Names of the weights that are trained."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def check_random_state(state: Any) -> None:
    """Compares the outline of a stored state of the random generators with that of those in use.

    Raises:
        ValueError: If a size is another.
    """
    own = random_state()
    check_alike({name: value for name, value in state.items() if name in own}, own)


def check_weights(state: Any, model: nn.Module, needed: Collection[str]) -> None:
    """Compares the outline of stored weights with a model, which may be spread over processes.

    Args:
        state: Weights by their names.
        model: What takes them.
        needed: Names of those that must be among them.

    Raises:
        ValueError: If one is missing, unknown or of another size.
    """
    # With the names of those that are in several places, too: PyTorch stores frozen ones under their second.
    own = dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])
    wanted = {name: list(value.shape) for name, value in own.items() if name in needed or name in state}
    different = difference({name: list(value.shape) for name, value in state.items()}, wanted)
    if different is not None:
        raise ValueError(different)


def check_alike(state: Any, own: Any) -> None:
    """Compares the sizes of the tensors in an outline with those of a state of the same kind.

    Args:
        state: The outline: nested dictionaries, lists and tuples.
        own: What it is to replace. It may hold more.

    Raises:
        ValueError: If a size is another, or there is more than in `own`.
    """
    if isinstance(state, torch.Tensor):
        size = list(own.shape) if hasattr(own, "shape") else None  # of NumPy, too
        if size != list(state.shape):
            raise ValueError(f"it holds a tensor of {list(state.shape)} instead of {size}")
    elif isinstance(state, dict):
        for key, value in state.items():
            check_alike(value, own[key])
    elif isinstance(state, (list, tuple)):
        for value, other in zip(state, own, strict=True):
            check_alike(value, other)
