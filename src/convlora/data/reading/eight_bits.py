"""Decoded values of an image as 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image

from convlora.data.reading.intensities import PIECE, Intensity, scale_of, scaled


def blackened(image: Image.Image, known: np.ndarray) -> Image.Image:
    """The image with black in place of pixels without data."""
    pixels = np.array(image)
    pixels[~known] = 0
    return Image.fromarray(pixels)


def to_eight_bits(
    values: np.ndarray, intensity: Intensity, name: str, known: np.ndarray | None, is_inverted: bool
) -> np.ndarray:
    """Values (H, W) or (H, W, C) as 8 bits, some rows at a time: all at once would take many times the image."""
    step = max(1, PIECE // values[:1].size)
    pieces = [slice(top, top + step) for top in range(0, len(values), step)]
    decisive = (values[rows] if known is None else values[rows][known[rows]] for rows in pieces)
    scale = scale_of(decisive, values.dtype, intensity, name)
    result = np.empty(values.shape, np.uint8)
    for rows in pieces:
        piece = values[rows]
        if known is not None:
            piece = piece.copy()
            piece[~known[rows]] = scale.low  # they may lie far outside the range
        result[rows] = 255 - scaled(piece, scale) if is_inverted else scaled(piece, scale)
        if known is not None:
            result[rows][~known[rows]] = 0
    return result
