"""How far pixels are from the nearest pixel of the foreground."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# OpenCV compares sums of the squares of two sides in single precision. Below 2^24 they are exact.
_HEIGHT, _WIDTH = 3072, 2580  # of what it is given at once, at most


def squared_distances(foreground: NDArray[np.bool_], reach: int) -> NDArray[np.int32]:
    """Square of the Euclidean distance of each pixel from the nearest pixel of the foreground.

    Args:
        foreground: `(H, W)`.
        reach: In pixels, at most 266. What is farther away is not measured.

    Returns:
        `(H, W)`, exact up to the square of `reach`. What is larger means farther away.

    Source: Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions", Theory of Computing 2012, as in
        `cv2.distanceTransform`.
    """
    import cv2  # slow to import, so only where it is used

    squared = np.empty(foreground.shape, np.int32)
    for rows, seen_rows in _tiles(foreground.shape[0], _HEIGHT, reach):
        for columns, seen_columns in _tiles(foreground.shape[1], _WIDTH, reach):
            free = np.logical_not(foreground[seen_rows, seen_columns]).view(np.uint8)
            found = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            own = found[rows.start - seen_rows.start :, columns.start - seen_columns.start :]
            own = own[: rows.stop - rows.start, : columns.stop - columns.start]
            np.minimum(own, reach + 1, out=own)  # without any foreground they are beyond all numbers
            np.square(own, out=own)
            np.rint(own, out=own)
            squared[rows, columns] = own
    return squared


def _tiles(length: int, most: int, reach: int) -> list[tuple[slice, slice]]:
    """Parts of a side, and what has to be seen for each."""
    if length <= most:
        return [(slice(0, length), slice(0, length))]
    count = -(-length // (most - 2 * reach))
    ends = [number * length // count for number in range(count + 1)]
    return [
        (slice(start, stop), slice(max(0, start - reach), min(length, stop + reach))) for start, stop in pairwise(ends)
    ]
