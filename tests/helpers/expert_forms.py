"""Choosing the form in which the experts of a model compute."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from convlora.methods import conv_lora
from convlora.methods.conv_lora import experts as experts_module
from convlora.methods.conv_lora.experts import ConvExperts
from tests.helpers import direct_experts

CHANNELS_LAST = hasattr(experts_module, "axis_tables")  # whether experts take maps `(B, H, W, r)`


def choose_experts(model: nn.Module, form: str) -> None:
    """Chooses a form in place.

    Args:
        model: A model with or without experts.
        form: "auto", "dense" (a GPU's), "strips" (a CPU's), or "direct", which enlarges the maps as the formula says.
    """
    if form == "direct":
        for module in model.modules():
            if isinstance(module, ConvExperts):
                module.forward = partial(_direct_forward, module)
        return
    set_form = getattr(conv_lora, "set_expert_form", None)
    if set_form is not None:
        set_form(model, form)


def _direct_forward(
    experts: ConvExperts, z: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """The direct form with the arguments of the fast one."""
    maps = z.permute(0, 3, 1, 2) if CHANNELS_LAST else z
    shares = torch.ones_like(indices, dtype=z.dtype) if weights is None else weights
    weight, bias = experts.weight.to(z.dtype), experts.bias.to(z.dtype)
    mixed = direct_experts.mix_experts(maps, weight, bias, indices, shares, experts.scales)
    return mixed.permute(0, 2, 3, 1) if CHANNELS_LAST else mixed
