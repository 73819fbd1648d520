"""Telling a SAM from another one of the same shape, by a few of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

_SAMPLES = 64
_POSITIONS = ("pos_embed", "rel_pos")  # which are interpolated to the size of the images


def sample_weights(encoder: nn.Module | None) -> dict[str, float]:
    """One weight of each of some matrices of a vision encoder, by the matrix's name, and what it does to pixels.

    Args:
        encoder: As it was loaded: before adapters are put in, and before it is rounded. None: a model without.
    """
    if encoder is None:
        return {}
    matrices = [
        (name, weight)
        for name, weight in encoder.named_parameters()
        if weight.ndim > 1 and not name.rpartition(".")[2].startswith(_POSITIONS)
    ]
    chosen = torch.linspace(0, len(matrices) - 1, min(_SAMPLES, len(matrices))).round().int().tolist()
    found = {matrices[k][0]: matrices[k][1].detach().flatten()[matrices[k][1].numel() // 2].item() for k in chosen}
    return found | getattr(encoder, "pixel_facts", {})  # equal weights on other pixels are another model


def same_weights(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two samples are of the same SAM, which may have been rounded to half precision in between."""
    return one.keys() == other.keys() and all(
        isinstance(value, (int, float)) and math.isclose(value, other[name], rel_tol=0.02, abs_tol=1e-4)
        for name, value in one.items()
    )
