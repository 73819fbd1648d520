"""Bringing the masks of a published data set into the form that training reads."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from convlora.data.reading.images import read_image, read_mask
from convlora.data.reading.mask_values import count_values, row_pieces
from convlora.data.reading.stored import StoredImage
from convlora.errors import InputError
from convlora.prepare.catalogue import Entry

_DARK = 8  # grey values up to here are noise of compression


def convert_mask(source: StoredImage, entry: Entry) -> bytes:
    """The mask as a PNG file: 0 and 255 of a binary task, class indices else.

    Binary masks are published in all forms: with other values than 255, compressed as JPEG, softened at their edges.
    What is brighter than half of the brightest value counts.

    Args:
        source: The mask as it came.
        entry: The data set it is of.

    Raises:
        InputError: If it cannot be read or has a value that stands for no class.
    """
    if entry.masks == "index":
        values = read_mask(source)
    else:
        values = _sums(read_image(source))
        if entry.masks == "binary":
            brightest = int(values.max())
            is_bright = values > brightest // 2 if brightest > 3 * _DARK else np.zeros(values.shape, bool)
            values = is_bright * np.uint8(255)
        else:
            values = _by_mean(values, entry, str(source))
    limit = 256 if entry.masks == "binary" else len(entry.classes)
    if values.min() < 0 or values.max() >= limit:
        raise InputError(f"{source} holds the value {values.max()}, which is none of the {len(entry.classes)} classes.")
    written = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(written, format="PNG")
    return written.getvalue()


def _sums(image: Image.Image) -> np.ndarray:
    """Three times the mean of the channels, without rounding, `(H, W)` uint16."""
    sums = np.empty((image.height, image.width), np.uint16)
    for rows in row_pieces(sums):  # all at once would take many times the mask
        band = image.crop((0, rows.start, image.width, min(rows.stop, image.height)))
        sums[rows] = np.asarray(band).sum(axis=-1, dtype=np.uint16)
    return sums


def _by_mean(sums: np.ndarray, entry: Entry, name: str) -> np.ndarray:
    index_of = {3 * mean: index for index, mean in reversed([*enumerate(entry.means)])}
    unknown = sorted(set(count_values(sums, sums.size)) - set(index_of))
    if unknown:
        raise InputError(f"{name} has the mean value {unknown[0] / 3:g}, which stands for none of its classes.")
    table = np.array([index_of.get(total, 0) for total in range(3 * 255 + 1)], np.uint8)
    return table[sums]
