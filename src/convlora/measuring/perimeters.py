"""The length of borders, from the steps between border pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CONTEXT = 2  # rows around a pixel on which its share of the perimeter depends


class BorderSteps(NamedTuple):
    """What single pixels add to the perimeters of their objects.

    Attributes:
        rows: Rows of the pixels.
        columns: Columns of the pixels.
        lengths: `(n, 3)`: steps to the side, up or down, and along a diagonal, in pixels.
    """

    rows: np.ndarray
    columns: np.ndarray
    lengths: np.ndarray


# By 1 + 2 * (border pixels beside) + 10 * (border pixels across): the share of straight and of diagonal steps.
_STRAIGHT, _DIAGONAL = np.zeros(50), np.zeros(50)
_STRAIGHT[[5, 7, 15, 17, 25, 27]] = 1
_DIAGONAL[[21, 33]] = 1
_STRAIGHT[[13, 23]] = _DIAGONAL[[13, 23]] = 0.5


def border_steps(values: np.ndarray) -> BorderSteps:
    """Finds the pixels at the borders of objects, and the steps that they stand for.

    A border pixel has a neighbour beside, above or below that is no part of its object. It counts by how its neighbours
    at the border lie: with a straight step, a diagonal step, or half of both. The lengths of the steps, 1 and the root
    of 2, sum to what `skimage.measure.perimeter` gives of each object alone. They are told apart here so that pixels
    need not be square.

    Objects are the connected pixels of one value, also across diagonals: equal neighbours are of one object.

    Args:
        values: `(CONTEXT + rows + CONTEXT, width)`, 0 where there is no object.

    Source:
        K. Benkrid, D. Crookes, A. Benkrid, "Design and FPGA Implementation of a Perimeter Estimator", 2000, as in
        scikit-image.
    """
    padded = np.pad(values, ((0, 0), (CONTEXT, CONTEXT)))
    core = padded[1:-1, 1:-1]
    border = core > 0
    border &= (
        (padded[:-2, 1:-1] != core)
        | (padded[2:, 1:-1] != core)
        | (padded[1:-1, :-2] != core)
        | (padded[1:-1, 2:] != core)
    )
    rows, columns = np.nonzero(border[1:-1, 1:-1])
    own = core[rows + 1, columns + 1]

    def near(down: int, right: int) -> np.ndarray:
        place = (rows + 1 + down, columns + 1 + right)
        return border[place] & (core[place] == own)

    beside = near(0, -1).astype(np.int64) + near(0, 1)
    above = near(-1, 0).astype(np.int64) + near(1, 0)
    across = sum((near(down, right).astype(np.int64) for down in (-1, 1) for right in (-1, 1)), np.zeros_like(beside))
    code = 1 + 2 * (beside + above) + 10 * across
    straight = _STRAIGHT[code] / np.maximum(beside + above, 1)
    lengths = np.stack([straight * beside, straight * above, _DIAGONAL[code]], axis=1)
    counts = lengths.any(axis=1)
    return BorderSteps(rows[counts], columns[counts], lengths[counts])
