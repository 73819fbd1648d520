"""Comparing the probability of the foreground with a threshold without computing the probability."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

_WIDTH = 64  # equal numbers in a row, so that PyTorch computes all of them as in large maps
_AROUND = 2048  # neighbouring numbers for which the shortcut is checked, on either side


def is_above(logits: torch.Tensor, threshold: float) -> torch.Tensor:
    """Whether `torch.sigmoid(logits) > threshold`, bit for bit, but without the sigmoid if the logits are float32.

    Args:
        logits: Logits of any shape.
        threshold: Between 0 and 1.

    Returns:
        Booleans of the same shape.
    """
    least = least_logit(threshold, logits.device) if logits.dtype == torch.float32 else None
    return torch.sigmoid(logits) > threshold if least is None else logits >= least


@lru_cache(maxsize=64)
@torch.no_grad()
def least_logit(threshold: float, device: torch.device) -> float | None:
    """The smallest float32 whose sigmoid is above a threshold.

    Args:
        threshold: Between 0 and 1.
        device: Where the sigmoid is computed; devices differ in the last bit.

    Returns:
        The number; None if there is no such border: the sigmoid may be off by a bit, here up and there down.
    """

    def above(places: np.ndarray) -> np.ndarray:
        numbers = torch.from_numpy(_number_at(places)).to(device)
        found: np.ndarray = (torch.sigmoid(numbers.repeat_interleave(_WIDTH)) > threshold).cpu().numpy()[::_WIDTH]
        return found

    low, high = (int(_place_of(np.float32(number))) for number in (-200, 200))
    while high - low > 1:
        middle = (low + high) // 2
        if above(np.array([middle]))[0]:
            high = middle
        else:
            low = middle
    around = np.arange(high - _AROUND, high + _AROUND)
    return float(_number_at(np.array([high]))[0]) if (above(around) == (around >= high)).all() else None


def _place_of(number: np.float32) -> np.int64:
    """Where a number stands among all float32 in their order; 0 is at 0."""
    bits = np.int64(number.view(np.int32))
    return bits if bits >= 0 else np.int64(-(1 << 31)) - bits


def _number_at(places: np.ndarray) -> np.ndarray:
    """The numbers at places as of [`_place_of`]."""
    bits = np.where(places >= 0, places, -(1 << 31) - places)
    return bits.astype(np.int32).view(np.float32)
