"""Outlines of the regions of a semantic map."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from rasterio.features import shapes
from scipy import ndimage

Ring = list[tuple[int, int]]


class TooManyCornersError(ValueError):
    """The outlines have more corners than were asked for; the argument is how many there are at least."""


class Region(NamedTuple):
    """Pixels of one class that touch each other at their sides.

    Attributes:
        class_index: The class.
        pixels: How many.
        rings: The outline, then those of the holes. Each is a closed list of corners (x, y) of pixels, whose first is
            repeated at its end; (0, 0) is the upper left corner of the image. The outline goes round clockwise as it is
            seen, holes the other way.
    """

    class_index: int
    pixels: int
    rings: list[Ring]


def regions(
    semantic_map: np.ndarray, num_classes: int, leave_out: int | None = None, most_corners: int | None = None
) -> list[Region]:
    """The regions of a semantic map, with exact outlines along the sides of pixels.

    Regions that only touch at a corner are apart. A ring never meets itself; two rings of a region may touch at a
    corner.

    Args:
        semantic_map: `(H, W)`; values that are no class belong to no region.
        num_classes: How many classes there are.
        leave_out: The class that is not wanted, such as the background.
        most_corners: How many corners all outlines may have together.

    Returns:
        The regions by class, and the largest of a class first.

    Raises:
        TooManyCornersError: If there are more corners.
    """
    found: list[Region] = []
    corners = 0
    known = np.where(semantic_map < num_classes, semantic_map.astype(np.int32) + 1, 0)
    for index, box in enumerate(ndimage.find_objects(known)):
        if box is None or index == leave_out:
            continue
        inside = known[box] == index + 1
        corners += _corners(inside)
        if most_corners is not None and corners > most_corners:
            raise TooManyCornersError(corners)
        found += _regions_of(index, inside, (box[1].start, box[0].start))
    return found


def _regions_of(index: int, inside: np.ndarray, corner: tuple[int, int]) -> list[Region]:
    of_class = []
    for shape, _ in shapes(inside.astype(np.uint8), mask=inside, connectivity=4):
        rings = [[(int(x) + corner[0], int(y) + corner[1]) for x, y in ring] for ring in shape["coordinates"]]
        turned = [ring if (_area(ring) > 0) == (number == 0) else ring[::-1] for number, ring in enumerate(rings)]
        of_class.append(Region(index, sum(map(_area, turned)), turned))
    return sorted(of_class, key=lambda region: -region.pixels)


def _area(ring: Ring) -> int:
    """Of what a ring encloses, in pixels; negative if it goes round anticlockwise, as it is seen."""
    return sum(x * v - u * y for (x, y), (u, v) in pairwise(ring)) // 2


def _corners(inside: np.ndarray) -> int:
    """How often outlines turn: once beside one or three of four pixels, twice between two that touch at a corner."""
    padded = np.pad(inside, 1).astype(np.int8)
    upper, lower = padded[:-1], padded[1:]
    total = upper[:, :-1] + upper[:, 1:] + lower[:, :-1] + lower[:, 1:]
    crossing = (total == 2) & (upper[:, :-1] == lower[:, 1:])
    return int((total % 2).sum() + 2 * crossing.sum())
