"""Where on earth an image lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GeoReference:
    """What ties the pixels of an image to the ground, in rasterio's types.

    Attributes:
        crs: The coordinate reference system, or None.
        transform: From columns and rows to coordinates.
        points: Ground control points, for images that have these instead of a transform.
        points_crs: Their coordinate reference system.
    """

    crs: Any
    transform: Any
    points: tuple[Any, ...] = ()
    points_crs: Any = None

    @classmethod
    def of(cls, dataset: Any) -> GeoReference | None:
        """That of an open data set of rasterio; None if it has none."""
        points, points_crs = dataset.gcps
        if dataset.crs is None and dataset.transform.is_identity and not points:
            return None
        return cls(dataset.crs, dataset.transform, tuple(points), points_crs)
