"""Clipping polygons."""

from __future__ import annotations

import numpy as np


def clip_polygon(points: np.ndarray, low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    """The part of a polygon inside a rectangle.

    Args:
        points: Corners `(n, 2)` as (x, y).
        low: Smallest x and y of the rectangle.
        high: Largest x and y.

    Returns:
        Corners `(m, 2)`; none if nothing is inside. A part outside between two parts inside becomes a line along the
        rectangle's side.

    Source: Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
    """
    for axis in (0, 1):
        for sign, bound in ((1.0, low[axis]), (-1.0, -high[axis])):
            points = _clip_side(points, sign * points[:, axis] - bound)
            if not len(points):
                return points
    return points


def _clip_side(points: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Keeps the side of a line on which `inside` is not negative; `inside` is the distance of each corner, signed."""
    if (inside >= 0).all():
        return points
    kept = []
    for index in range(len(points)):
        before, distance = inside[index - 1], inside[index]
        if (before >= 0) != (distance >= 0):
            share = before / (before - distance)
            kept.append(points[index - 1] + share * (points[index] - points[index - 1]))
        if distance >= 0:
            kept.append(points[index])
    return np.array(kept).reshape(-1, 2)
