"""Models whose weights are spread over processes by FSDP: whole weights out of them, and into them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of the weights only."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def trained_weights(model: nn.Module) -> dict[str, Any]:
    """The whole trained weights on the CPU of the first process. All processes must call it."""
    return get_model_state_dict(model, options=_WHOLE)


def load_trained_weights(model: nn.Module, weights: dict[str, Any]) -> None:
    """Puts whole trained weights into a model, each process its part.

    Frozen weights and buffers stay as the SAM had them, even if the file has values for them: it may come from a
    stranger.
    """
    trained = {name: value for name, value in weights.items() if _is_trained(model, name)}
    set_model_state_dict(model, trained, options=_WHOLE)


def optimizer_state(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """The whole state of an optimizer on the CPU of the first process. All processes must call it."""
    return get_optimizer_state_dict(model, _plain(optimizer), options=_WHOLE)


def load_optimizer_state(model: nn.Module, optimizer: Any, state: dict[str, Any]) -> None:
    """Puts the whole state into an optimizer, each process its part."""
    set_optimizer_state_dict(model, _plain(optimizer), state, options=_WHOLE)


def own_part(parameter: torch.Tensor) -> torch.Tensor:
    """What this process holds of a parameter, in place; to be called without gradients."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter.detach()


def reshard(model: nn.Module) -> None:
    """Drops whole weights that a process may still hold of a pass, before its part of them changes."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole_number(value: Any) -> Any:
    """A scalar that may be spread over processes, as a plain tensor."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _is_trained(model: nn.Module, name: str) -> bool:
    """Whether a weight, or the module of a buffer, is trained."""
    owner, _, last = name.rpartition(".")
    module = model.get_submodule(owner)
    own: Any = getattr(module, last)
    if isinstance(own, nn.Parameter):
        return own.requires_grad
    return ".modules_to_save." in name or any(one.requires_grad for one in module.parameters(recurse=False))


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    return inner
