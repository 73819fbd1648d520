"""Outlines of the regions of a semantic map."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

import numpy as np
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
    left = most_corners
    known = np.where(semantic_map < num_classes, semantic_map.astype(np.int32) + 1, 0)
    for index, box in enumerate(ndimage.find_objects(known)):
        if box is None or index == leave_out:
            continue
        inside = known[box] == index + 1
        edges = _Edges(inside)
        if left is not None:
            left -= 2 * len(edges.horizontal)
            if left < 0 and most_corners is not None:
                raise TooManyCornersError(most_corners - left)
        found += _regions_of(index, inside, edges, (box[1].start, box[0].start))
    return found


def _regions_of(index: int, inside: np.ndarray, edges: _Edges, corner: tuple[int, int]) -> list[Region]:
    labels, _ = ndimage.label(inside)
    pixels = np.bincount(labels.ravel())
    rings: dict[int, list[Ring]] = defaultdict(list)
    for ring, pixel in edges.rings():
        rings[int(labels[pixel])].append([(x + corner[0], y + corner[1]) for x, y in ring])
    of_class = [
        # The outline is the only ring that goes round clockwise.
        Region(index, int(pixels[label]), sorted(group, key=lambda ring: -_area(ring)))
        for label, group in rings.items()
    ]
    return sorted(of_class, key=lambda region: -region.pixels)


def _area(ring: Ring) -> int:
    """Of what a ring encloses, in pixels; negative if it goes round anticlockwise, as it is seen."""
    return sum(x * v - u * y for (x, y), (u, v) in pairwise(ring)) // 2


class _Edges:
    """The sides of a region of pixels, joined to straight edges that end at corners.

    Every edge has the inside to its right as it is seen: along the top of a pixel it leads to the right, along its
    right side down, along its bottom to the left, and along its left side up.

    Attributes:
        horizontal: `(n, 3)` of start x, end x, and y.
        vertical: `(n, 3)` of start y, end y, and x.
    """

    def __init__(self, inside: np.ndarray) -> None:
        padded = np.pad(inside, 1).astype(np.int8)
        above, below = padded[:-1], padded[1:]
        # At a corner where two pixels meet diagonally, one edge ends and another begins, on either side.
        upper = above[:, :-1] != above[:, 1:]
        self._crossing = upper & (below[:, :-1] != below[:, 1:]) & (above[:, :-1] != below[:, :-1])
        # 1 where an edge leads right, or down; -1 where it leads left, or up.
        self.horizontal = _straight((below - above)[:, 1:-1], self._crossing)
        across = padded[:, 1:] - padded[:, :-1]
        self.vertical = _straight(-across[1:-1].T, self._crossing.T)
        self._width = inside.shape[1] + 1

    def rings(self) -> list[tuple[Ring, tuple[int, int]]]:
        """Closed rings, and for each a pixel (row, column) of the region beside it."""
        along, upright = self.horizontal, self.vertical
        # Where two edges arrive at a corner, each turns right, and so stays with its pixel.
        leads_right, leads_down = along[:, 1] > along[:, 0], upright[:, 1] > upright[:, 0]
        then_upright = _joined(
            self._keys(along[:, 1], along[:, 2], leads_right), self._keys(upright[:, 2], upright[:, 0], leads_down)
        )
        then_along = _joined(
            self._keys(upright[:, 2], upright[:, 1], ~leads_down), self._keys(along[:, 0], along[:, 2], leads_right)
        )
        follower = then_along[then_upright].tolist()
        starts, ends, rows = along[:, 0].tolist(), along[:, 1].tolist(), along[:, 2].tolist()
        done = [False] * len(starts)
        found: list[tuple[Ring, tuple[int, int]]] = []
        for first in range(len(starts)):
            if done[first]:
                continue
            corners: Ring = []
            edge = first
            while not done[edge]:
                done[edge] = True
                corners += [(starts[edge], rows[edge]), (ends[edge], rows[edge])]
                edge = follower[edge]
            y = rows[first]
            pixel = (y, starts[first]) if ends[first] > starts[first] else (y - 1, starts[first] - 1)
            found += [(ring, pixel) for ring in _without_meetings(corners)]
        return found

    def _keys(self, x: np.ndarray, y: np.ndarray, leads: np.ndarray) -> np.ndarray:
        """A number for each corner, and one for each of the two pairs of edges where two meet."""
        return 2 * (y * self._width + x) + (self._crossing[y, x] & leads)


def _joined(arriving: np.ndarray, leaving: np.ndarray) -> np.ndarray:
    """For each arriving edge the one that leaves from the same corner."""
    order = np.empty(len(arriving), np.int64)
    order[np.argsort(arriving)] = np.argsort(leaving)
    return order


def _straight(signs: np.ndarray, crossing: np.ndarray) -> np.ndarray:
    """Joins the sides along each line to edges.

    Args:
        signs: `(lines, n)` int8: whether there is a side, and where it leads.
        crossing: `(lines, n + 1)` bool: the corners that no edge passes.

    Returns:
        `(edges, 3)` int64 of start, end and line.
    """
    before, after = np.pad(signs, ((0, 0), (1, 0))), np.pad(signs, ((0, 0), (0, 1)))
    breaks = (before != after) | crossing
    lines, low = np.nonzero(breaks & (after != 0))
    _, high = np.nonzero(breaks & (before != 0))
    forward = signs[lines, low] > 0
    return np.stack([np.where(forward, low, high), np.where(forward, high, low), lines], axis=1)


def _without_meetings(corners: Ring) -> list[Ring]:
    """Cuts a ring where it meets itself, so that what it goes round becomes a ring of its own."""
    found: list[Ring] = []
    path: Ring = []
    places: dict[tuple[int, int], int] = {}
    for corner in corners:
        if corner in places:
            place = places[corner]
            found.append([*path[place:], corner])
            for passed in path[place:]:
                del places[passed]
            del path[place:]
        places[corner] = len(path)
        path.append(corner)
    found.append([*path, path[0]])
    return found
