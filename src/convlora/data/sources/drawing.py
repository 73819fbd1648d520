"""Drawing outlines as COCO's own tools do, without letting them take memory by where their corners lie."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from convlora.data.sources.polygons import clip_polygon

_FARTHEST = 1e12  # pixels from the corner of the image; farther ones overflow when polygons are clipped
_LONGEST_OUTLINE = 4e6  # pixels of one annotation; drawing takes memory by them


def outline_runs(polygons: Iterable[Any], height: int, width: int) -> tuple[Any, int]:
    """The pixels inside any of some polygons.

    Args:
        polygons: Corners `x, y, x, y, ...` of each, in pixels; `(0, 0)` is the corner of the first pixel.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        Run lengths as pycocotools has them, and the number of polygons of fewer than three corners, which are left out.

    Raises:
        ValueError: A polygon cannot be drawn; the message is a clause that tells why.
    """
    from pycocotools import mask as coco_mask  # nobody else needs it

    seen, length, lines = [], 0.0, 0
    for polygon in polygons:
        points = np.asarray(polygon, dtype=np.float64)
        if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
            raise ValueError("a polygon is not a list of numbers x, y, x, y, ...")
        if len(points) < 6:  # a point or a line, of which tools leave some behind
            lines += 1
            continue
        if np.abs(points).max() > _FARTHEST:
            raise ValueError("a corner of a polygon lies absurdly far outside")
        # What lies far outside cannot be seen, and would take memory by its distance.
        inside = clip_polygon(points.reshape(-1, 2), (-width, -height), (2 * width, 2 * height))
        length += float(np.abs(inside - np.roll(inside, 1, axis=0)).sum())
        if len(inside) >= 3:
            seen.append(inside.ravel().tolist())
    if length > _LONGEST_OUTLINE:
        raise ValueError("its outline is too long to be drawn")
    if not seen:
        return coco_mask.encode(np.zeros((height, width), dtype=np.uint8, order="F")), lines
    return coco_mask.merge(coco_mask.frPyObjects(seen, height, width)), lines


def traced_pixels(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels inside an outline and on it, `(H, W)` bool.

    Outlines traced from masks name the pixels that they run through. Drawn so, they give the mask back, as OpenCV's
    `fillPoly` does for its `findContours`.

    Args:
        points: Columns and rows of pixels, `(N, 2)`.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
    """
    inside = clip_polygon(points, (-width, -height), (2 * width, 2 * height)).round().astype(int)
    drawn = Image.new("L", (width, height))
    if len(inside) >= 3:
        ImageDraw.Draw(drawn).polygon([(x, y) for x, y in inside.tolist()], fill=1, outline=1)
    return np.asarray(drawn) > 0
