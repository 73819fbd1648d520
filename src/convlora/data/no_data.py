"""Pixels without data, which GeoTIFF files mark by a value of their own.

They are black, and their values do not take part in the range of an image.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from convlora.data.depth import stored_grey
from convlora.data.intensities import PIECE
from convlora.data.tiff_tags import bits, no_data_value, premultiplied, tags_of, zero_is_white

_GREY = ("1", "L")
_SIXTEEN_BITS = 16
# Of an image with alpha, how many channels count.
_CHANNELS = {"LA": 1, "PA": 1, "RGBA": 3}
_MODES = ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L", "I;16N", "RGB", "La", *_CHANNELS)


def missing_values(stored: np.ndarray, no_data: float) -> np.ndarray:
    """Which values mean no data.

    Args:
        stored: The values as the file holds them, of any shape.
        no_data: What the file states.

    Returns:
        Booleans of the same shape.
    """
    if math.isnan(no_data):
        return np.isnan(stored)
    with np.errstate(over="ignore"):  # the lowest float64 is minus infinity among float32
        return np.equal(stored, no_data)


def known_pixels(missing: np.ndarray, channels: int) -> np.ndarray:
    """Which pixels have data: those of which one channel has.

    Args:
        missing: Of [`missing_values`].
        channels: Its axis of channels.
    """
    return np.logical_not(missing.all(axis=channels))


def known_of(opened: Image.Image, upright: Image.Image) -> np.ndarray | None:
    """Which pixels of an image have data.

    Args:
        opened: The file, which has the tags.
        upright: Its pixels, turned as its tags say and not yet converted.

    Returns:
        `(H, W)` bool; None if all have.
    """
    tags = tags_of(opened)
    no_data = no_data_value(tags)
    if no_data is None or upright.mode not in _MODES:
        return None
    values = np.asarray(upright)
    depth = bits(tags)
    if values.ndim == 3 and depth == _SIXTEEN_BITS and no_data != 0:
        return None  # Pillow has dropped the lower bytes, which tell other values from their neighbours
    if values.ndim == 3 and not premultiplied(tags):
        values = values[..., : _CHANNELS.get(upright.mode, values.shape[-1])]
    known = np.empty(values.shape[:2], bool)
    step = max(1, PIECE // values[:1].size)
    for top in range(0, len(values), step):
        piece = values[top : top + step]
        if upright.mode in _GREY:
            piece = stored_grey(piece, depth, zero_is_white(tags))
        missing = missing_values(piece, no_data)
        known[top : top + step] = known_pixels(missing, -1) if missing.ndim == 3 else ~missing
    return known
