"""Pixels without data, which TIFF files mark by a value of their own, by alpha, or by a mask.

They are black, and their values do not take part in the range of an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from convlora.data.reading.depth import stored_grey
from convlora.data.reading.intensities import PIECE
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.data.reading.tiff.tags import bits, no_data_value, tags_of, zero_is_white

_GREY = ("1", "L")
# Of an image with alpha, how many channels count.
_CHANNELS = {"LA": 1, "La": 1, "PA": 1, "RGBA": 3}
_MODES = ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L", "I;16N", "RGB", *_CHANNELS)


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
    """Which pixels have data: those with data in at least one channel.

    Args:
        missing: What [`missing_values`] gave.
        channels: Its axis of channels.
    """
    return np.logical_not(missing.all(axis=channels))


def known_of(opened: Image.Image, upright: Image.Image, own: np.ndarray | None = None) -> np.ndarray | None:
    """Which pixels of an image that Pillow has decoded hold data.

    Args:
        opened: The file, which has the tags.
        upright: Its pixels, turned as its tags say and not yet converted.
        own: What a mask of the file says of these pixels.

    Returns:
        `(H, W)` bool; None if all have.
    """
    tags = tags_of(opened)
    known = own
    for found in (_by_value(tags, upright), _by_alpha(tags, upright)):
        if found is not None:
            known = found if known is None else known & found
    return known


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Values `(H, W)` or `(H, W, C)` turned and mirrored as EXIF says."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def _by_alpha(tags: Mapping[int, Any], upright: Image.Image) -> np.ndarray | None:
    """Which pixels are not wholly transparent, if the file has alpha and not just a fourth channel."""
    layout = TiffLayout.of(tags)
    if layout is None or layout.alpha is None or upright.mode not in _CHANNELS:
        return None
    return np.asarray(upright.getchannel(upright.getbands()[-1])) != 0


def _by_value(tags: Mapping[int, Any], upright: Image.Image) -> np.ndarray | None:
    """Which pixels have another value than the one for "no data"."""
    no_data = no_data_value(tags)
    if no_data is None or upright.mode not in _MODES:
        return None
    values = np.asarray(upright)
    depth = bits(tags)
    if values.ndim == 3:
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
