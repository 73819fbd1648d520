"""Colours of masks as numbers: grey pixels are their grey value, all others lie above every grey value."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Colour = tuple[int, int, int]

_COLOURED = 1 << 24  # above all values of masks with one channel
_MOST_LISTED = 10


def colour_values(pixels: np.ndarray) -> np.ndarray:
    """One number per pixel of a mask in colour.

    Args:
        pixels: `(H, W, 3)` or more channels, uint8; channels after the third are left out.

    Returns:
        `(H, W)` int32: the grey value where all three channels are equal, and `2**24 + 65536 R + 256 G + B` elsewhere.
    """
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    grey = (red == green) & (red == blue)
    return np.where(grey, red, _COLOURED | red << 16 | green << 8 | blue)


def colour_value(colour: Colour) -> int:
    """The number that stands for a colour, as in [`colour_values`]."""
    return int(colour_values(np.array([[colour]], dtype=np.uint8))[0, 0])


def is_colour(value: int) -> bool:
    """Whether a value of a mask stands for a colour that is not grey."""
    return value >= _COLOURED


def describe_value(value: int) -> str:
    """A value of a mask for a message: `7`, or `(255, 0, 0)`."""
    if not is_colour(value):
        return str(value)
    return f"({value >> 16 & 255}, {value >> 8 & 255}, {value & 255})"


def listed(values: Iterable[int]) -> str:
    """The first values of many, for a message: `the values 0, 1, 2, ...`."""
    ordered = sorted(values)
    shown = ", ".join(describe_value(value) for value in ordered[:_MOST_LISTED])
    noun = "colour" if ordered and is_colour(ordered[-1]) else "value"
    return f"the {noun}{'s' if len(ordered) > 1 else ''} {shown}{', ...' if len(ordered) > _MOST_LISTED else ''}"
