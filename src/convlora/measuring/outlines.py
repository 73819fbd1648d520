"""Outlines of objects along the edges of their pixels, by rasterio."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psutil
from rasterio import Affine
from rasterio.features import shapes

from convlora.measuring.objects import Objects
from convlora.measuring.spans import Spans, drawn

_BYTES = 8  # of memory that a pixel of what is drawn takes
_MOST_PIXELS = 1 << 22  # that are drawn at a time, unless an object is larger itself
Polygon = list[np.ndarray]


def outlines(objects: Objects) -> Iterator[list[Polygon]]:
    """The polygons of each object in turn.

    Pixels that touch at a corner only are of one object, but no valid polygon holds both: such an object has several.

    Args:
        objects: With their spans.

    Yields:
        The polygons of an object, each a list of closed rings `(n, 2)` of x and y in pixels, from the corner of the
        first pixel: the outer one, and those of holes.

    Raises:
        MemoryError: If an object is too large for what is free.
    """
    spans = objects.spans
    if spans is None:
        raise ValueError("outlines need the spans of the objects")
    bounds = np.searchsorted(spans.owners, np.arange(len(objects) + 1))
    first = 0
    while first < len(objects):
        last, box = first + 1, objects.boxes[first]
        while last < len(objects) and _pixels(larger := _around(box, objects.boxes[last])) <= _MOST_PIXELS:
            last, box = last + 1, larger
        some = Spans(*(array[bounds[first] : bounds[last]] for array in spans))
        top, left, bottom, right = (int(side) for side in box)
        needed, free = _BYTES * _pixels(box), psutil.virtual_memory().available
        if needed > free:  # the system would not refuse it but end the process when it is used
            raise MemoryError(f"an object takes {needed / 1e9:.1f} GB to be drawn, and {free / 1e9:.1f} GB are free")
        picture = drawn(some, (top, left, bottom, right), some.owners - first + 1)
        found: list[list[Polygon]] = [[] for _ in range(first, last)]
        # The connection across a corner is made by the objects, so that rings do not touch themselves.
        place = Affine.translation(left, top)
        for shape, value in shapes(picture, mask=picture > 0, connectivity=4, transform=place):
            found[int(value) - 1].append([np.array(ring) for ring in shape["coordinates"]])
        yield from found
        first = last


def _around(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.concatenate([np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:])])


def _pixels(box: np.ndarray) -> int:
    return int((box[2] - box[0]) * (box[3] - box[1]))
