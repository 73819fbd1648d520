"""Outlines of objects as GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from convlora.measuring.map_scale import WGS84, MapScale
from convlora.measuring.objects import Objects
from convlora.measuring.outlines import Polygon, outlines
from convlora.measuring.scale import PlainScale
from convlora.measuring.table import rows_of
from convlora.storage import SOFTWARE

_PROPERTIES = ("object", "class", "class_name", "area_px", "mean_probability", "unit", "area", "perimeter")
_LONGEST = 64  # pixels between corners: a straight edge of the image is slightly bent in degrees
_PIXELS = "pixels from the upper left corner of the image, x to the right and y down"
_DEGREES = "longitude and latitude, WGS 84"


def geojson_lines(objects: Objects, names: Sequence[str], scale: PlainScale, image: str) -> Iterator[str]:
    """The lines of a GeoJSON file (RFC 7946), a feature in each.

    Coordinates are longitude and latitude if the image has a coordinate system. They are those of its transform, or
    else pixels, if it has none; the member "coordinates" says so.

    Args:
        objects: With their spans.
        names: Names of the classes.
        scale: What pixels stand for.
        image: Name of the image.
    """
    head: dict[str, Any] = {"software": SOFTWARE, "image": image, "coordinates": _kind(scale)}
    yield '{"type": "FeatureCollection", ' + json.dumps(head)[1:-1] + ', "features": ['
    last = len(objects) - 1
    for index, (row, polygons) in enumerate(zip(rows_of(objects, names, scale), outlines(objects))):
        feature = {
            "type": "Feature",
            "properties": {name: _rounded(row[name]) for name in _PROPERTIES if row[name] is not None},
            "geometry": _geometry(polygons, scale),
        }
        yield json.dumps(feature, allow_nan=False) + ("," if index < last else "")
    yield "]}"


def _rounded(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _kind(scale: PlainScale) -> str:
    if not isinstance(scale, MapScale):
        return _PIXELS
    return _DEGREES if scale.crs is not None else "those of the image's transform; its coordinate system is not known"


def _geometry(polygons: list[Polygon], scale: PlainScale) -> dict[str, Any]:
    placed = _placed(polygons, scale)
    if len(placed) == 1:
        return {"type": "Polygon", "coordinates": placed[0]}
    return {"type": "MultiPolygon", "coordinates": placed}


def _placed(polygons: list[Polygon], scale: PlainScale) -> list[list[list[list[float]]]]:
    if not isinstance(scale, MapScale):
        return [[_turned(ring, number == 0).tolist() for number, ring in enumerate(polygon)] for polygon in polygons]
    rings = [ring for polygon in polygons for ring in polygon]
    if scale.crs is not None:
        rings = [_with_corners_between(ring) for ring in rings]
    points = scale.corners_to_map(np.concatenate(rings))
    if scale.crs is not None:
        points = scale.to_system(points, WGS84)
        if np.ptp(points[:, 0]) > 180:  # it lies across the antimeridian, and goes on beyond 180 degrees
            points[:, 0] %= 360
        points = points.round(9)  # a tenth of a millimetre
    parts = iter(np.split(points, np.cumsum([len(ring) for ring in rings])[:-1]))
    return [[_turned(next(parts), number == 0).tolist() for number in range(len(polygon))] for polygon in polygons]


def _turned(ring: np.ndarray, is_outer: bool) -> np.ndarray:
    """A closed ring, counterclockwise if it is an outer one and clockwise if it is a hole, x to the right and y up."""
    x, y = (ring - ring[0]).T
    counterclockwise = float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) > 0
    return ring if counterclockwise == is_outer else ring[::-1]


def _with_corners_between(ring: np.ndarray) -> np.ndarray:
    steps = np.abs(np.diff(ring, axis=0)).max(axis=1)
    pieces = np.maximum(1, np.ceil(steps / _LONGEST)).astype(np.int64)
    begins = np.repeat(np.arange(len(pieces)), pieces)
    inside = np.arange(len(begins)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = (inside / pieces[begins])[:, None]
    return np.concatenate([ring[:-1][begins] * (1 - share) + ring[1:][begins] * share, ring[-1:]])
