"""Bringing the masks of a published data set into the form that training reads."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from convlora.data.images import read_image, read_mask
from convlora.data.stored import StoredImage
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
        values = np.asarray(read_image(source)).astype(np.int64).sum(axis=-1)  # three times the mean, without rounding
        if entry.masks == "binary":
            brightest = int(values.max())
            values = np.where(2 * values > brightest, 255, 0) if brightest > 3 * _DARK else np.zeros_like(values)
        else:
            values = _by_mean(values, entry, str(source))
    limit = 256 if entry.masks == "binary" else len(entry.classes)
    if values.min() < 0 or values.max() >= limit:
        raise InputError(f"{source} holds the value {values.max()}, which is none of the {len(entry.classes)} classes.")
    written = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(written, format="PNG")
    return written.getvalue()


def _by_mean(sums: np.ndarray, entry: Entry, name: str) -> np.ndarray:
    known = 3 * np.asarray(entry.means)
    unknown = np.setdiff1d(sums, known)
    if unknown.size:
        raise InputError(f"{name} has the mean value {unknown[0] / 3:g}, which stands for none of its classes.")
    return np.argmax(sums[..., None] == known, axis=-1)
