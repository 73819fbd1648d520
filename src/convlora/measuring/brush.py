"""Masks as the brush strokes of Label Studio: run lengths in bits of the four channels of an image.

The form is that of the package rle-pack of thi.ng/umbrella, which Label Studio uses. A head of 53 bits tells the number
of values (32 bits), the bits of a value less one (5), and four widths of lengths less one (4 each). Then come blocks:
one bit that says whether a value is repeated, two that choose a width, the number of values less one in that width, and
the value. Label Studio reads a mask from the fourth channel, the opacity.

Source: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
"""

from __future__ import annotations

import numpy as np

_CHANNELS = 4  # red, green, blue, opacity
_VALUE_BITS = 8
_WIDTHS = np.array([3, 4, 8, 16])  # of lengths, in bits
_LONGEST = 1 << int(_WIDTHS[-1])  # of a run
_INSIDE = 255
_BLOCK = 3 + int(_WIDTHS[-1]) + _VALUE_BITS  # bits of the longest block

MOST_PIXELS = ((1 << 32) - 1) // _CHANNELS
"""Of a mask: the head has 32 bits for its values."""


def brush_runs(mask: np.ndarray) -> list[int]:
    """A mask as the bytes of `value.rle` of a brush label.

    Args:
        mask: `(H, W)` bool, of the whole image.

    Raises:
        ValueError: If it has more than [`MOST_PIXELS`] pixels.
    """
    if mask.size > MOST_PIXELS:
        raise ValueError("the mask has too many pixels")
    lengths, values = _runs(mask)
    # A run that is too long becomes several.
    parts = np.maximum(1, -(-lengths // _LONGEST))
    last = np.cumsum(parts) - 1
    values, whole = np.repeat(values, parts), np.full(int(parts.sum()), _LONGEST)
    whole[last] = lengths - (parts - 1) * _LONGEST
    chosen = np.searchsorted(1 << _WIDTHS, whole)  # the narrowest width that a length fits into
    widths = _WIDTHS[chosen]
    blocks = (1 << 2 | chosen) << widths + _VALUE_BITS | (whole - 1) << _VALUE_BITS | values
    bits = (blocks[:, None] >> np.arange(_BLOCK)[::-1] & 1).astype(np.uint8)
    body = bits[np.arange(_BLOCK) >= _BLOCK - (3 + widths + _VALUE_BITS)[:, None]]
    return np.packbits(np.concatenate([_head(mask.size * _CHANNELS), body])).tolist()


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths, in values of all channels, and values of the runs of a mask."""
    flat = np.asarray(mask, dtype=bool).ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    lengths = np.diff(starts, append=len(flat)) * _CHANNELS
    return lengths, np.where(flat[starts], _INSIDE, 0)


def _head(number: int) -> np.ndarray:
    fields = [(number, 32), (_VALUE_BITS - 1, 5), *((int(width) - 1, 4) for width in _WIDTHS)]
    return np.array([int(bit) for value, width in fields for bit in f"{value:0{width}b}"], np.uint8)
