"""Colours of masks as numbers that lie above all values of masks with one channel.

So a mask says by its values whether it is stored in colour, and black and white in it are colours like any other.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Colour = tuple[int, int, int]

_COLOURED = 1 << 24  # above all values of masks with one channel
_MOST_LISTED = 10


def colour_values(pixels: np.ndarray) -> np.ndarray:
    """One number per pixel of a mask in colour: `2**24 + 65536 R + 256 G + B`.

    Args:
        pixels: `(H, W, 3)` or more channels, uint8; channels after the third are left out.

    Returns:
        `(H, W)` int32.
    """
    values = np.full(pixels.shape[:2], _COLOURED, np.int32)
    for channel, shift in enumerate((16, 8, 0)):
        values |= pixels[..., channel].astype(np.int32) << shift
    return values


def colour_value(colour: Colour) -> int:
    """The number that stands for a colour, as in [`colour_values`]."""
    red, green, blue = colour
    return _COLOURED | red << 16 | green << 8 | blue


def is_colour(value: int) -> bool:
    """Whether a value comes from a mask in colour."""
    return value >= _COLOURED


def grey_of(value: int) -> int | None:
    """The grey value of a colour whose channels are equal; None for other colours and for values that are none."""
    if not is_colour(value):
        return None
    red, green, blue = value >> 16 & 255, value >> 8 & 255, value & 255
    return red if red == green == blue else None


def without_grey(values: Iterable[int]) -> set[int]:
    """Values with every grey colour as its grey value: masks with one channel are often saved with three."""
    return {value if grey_of(value) is None else grey_of(value) or 0 for value in values}


def describe_value(value: int) -> str:
    """A value of a mask for a message: `7`, or `(255, 0, 0)`."""
    if not is_colour(value):
        return str(value)
    return f"({value >> 16 & 255}, {value >> 8 & 255}, {value & 255})"


def listed(values: Iterable[int]) -> str:
    """The first values of many, for a message: `the values 0, 1, 2, ...`."""
    ordered = sorted(values)
    coloured = bool(ordered) and is_colour(ordered[-1])
    if coloured:  # grey among colours, written alike
        ordered = sorted(value if is_colour(value) else colour_value((value,) * 3) for value in set(ordered))
    shown = ", ".join(describe_value(value) for value in ordered[:_MOST_LISTED])
    noun = "colour" if coloured else "value"
    return f"the {noun}{'s' if len(ordered) > 1 else ''} {shown}{', ...' if len(ordered) > _MOST_LISTED else ''}"
