"""From values of any range to 8 bits, a piece of an image at a time.

The rules are those of `convlora.data.reading.images.read_image`; the range of the whole image is found beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from convlora.errors import InputError

Intensity = Literal["type", "image"]

PIECE = 1 << 22  # values to convert at a time, which takes some 30 bytes each


class Scale(NamedTuple):
    """Values from `low` on, over a range of `full`, become 0 to 255."""

    low: float
    full: float


class Range(NamedTuple):
    """Smallest and largest value of an image."""

    low: float
    high: float


def find_range(pieces: Iterable[np.ndarray], name: str) -> Range:
    """The range of the finite values of all pieces.

    Raises:
        InputError: If there are none.
    """
    found: Range | None = None
    for piece in pieces:
        values = piece[np.isfinite(piece)] if np.issubdtype(piece.dtype, np.floating) else piece
        if values.size:
            low, high = float(values.min()), float(values.max())
            found = Range(low, high) if found is None else Range(min(found.low, low), max(found.high, high))
    if found is None:
        raise InputError(f"{name} holds nothing but NaN, infinite or missing values. Replace the file.")
    return found


def scale_of(pieces: Iterable[np.ndarray], kind: np.dtype, intensity: Intensity, name: str) -> Scale:
    """The scale by which the values of an image become intensities.

    Args:
        pieces: The values that decide; gone through only if they have to.
        kind: Their data type.
        intensity: See `convlora.data.reading.images.read_image`; `"type"` only of other types than uint8.
        name: Name of the image, for messages.

    Raises:
        InputError: If there are no values, or none of the known ranges holds them.
    """
    if intensity == "image":
        return scale_by_range(find_range(pieces, name))
    # Sixteen bits without a sign always fit; of other types the values decide.
    found = None if kind.kind == "u" and kind.itemsize == 2 else find_range(pieces, name)
    return scale_by_type(found, kind, name)


def scale_by_type(found: Range | None, kind: np.dtype, name: str) -> Scale:
    """The scale by which values of another data type than uint8 become intensities.

    Args:
        found: The range of the image's values; None if it cannot but fit.
        kind: Their data type.
        name: Name of the image, for the message.

    Raises:
        InputError: If no known range holds the values.
    """
    low, high = found if found is not None else (0.0, 0.0)
    if low < 0 or high > 65535:
        raise InputError(
            f"{name} has values from {low:g} to {high:g}, whose full range is unknown. Scale them to 0 to 65535, or "
            "train with --set data.intensity=image, which stretches each image's own range."
        )
    if kind.kind != "f":
        return Scale(0.0, 255.0 if kind.itemsize == 1 else 65535.0)
    return Scale(0.0, 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0)


def scale_by_range(found: Range) -> Scale:
    """The scale that stretches an image's own range."""
    return Scale(found.low, found.high - found.low)


def scaled(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Values as uint8; those that are not finite count as the smallest."""
    if scale.full == 0:  # one value everywhere has no range to stretch
        return np.zeros(values.shape, np.uint8)
    numbers = values.astype(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, scale.low)
    return np.rint((numbers - scale.low) * (255.0 / scale.full)).astype(np.uint8)
