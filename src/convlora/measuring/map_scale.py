"""What pixels of a GeoTIFF stand for: metres on the ground, and map coordinates."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform

from convlora.data.reading.geo import GeoReference
from convlora.measuring.pixel_size import PixelSize
from convlora.measuring.scale import PlainScale

WGS84 = "EPSG:4326"
_TRUE = 0.01  # of an area: a coordinate system that is off by less is measured in; that of a UTM zone is off by 0.002
_FAILURES = (CRSError, RasterioError, ValueError)


class MapScale(PlainScale):
    """Pixels of an image with a transform.

    Lengths are in metres. They are those of the image's own coordinate system if that is true to area within 1%. Those
    of degrees, and of Web Mercator, whose metres are true at the equator only, are those of an equal-area projection
    around the middle of the image (Lambert's, on the ellipsoid WGS 84), at the centre of each object.

    Args:
        reference: Reference of the image; it has a transform.
        size: (height, width) of the image in pixels.
        pixel_size: If the image does not say itself how large its pixels are.
    """

    def __init__(self, reference: GeoReference, size: tuple[int, int], pixel_size: PixelSize | None = None) -> None:
        super().__init__(pixel_size)
        self.transform, self._system = reference.transform, reference.crs
        self.crs = None if reference.crs is None else _name(reference.crs)
        self._own: np.ndarray | None = None  # in metres, everywhere
        self._projected: CRS | None = None  # to be measured in, where the own one is not true
        if reference.crs is not None:
            self._choose(np.array([[(size[0] - 1) / 2, (size[1] - 1) / 2]]))

    @property
    def states_size(self) -> bool:
        """Whether the image says how large its pixels are on the ground."""
        return self._own is not None or self._projected is not None

    def _choose(self, middle: np.ndarray) -> None:
        system, own = self._system, None
        if system.is_projected:
            metres = system.linear_units_factor[1]
            own = metres * np.array([[self.transform.a, self.transform.d], [self.transform.b, self.transform.e]])
        try:
            ((longitude, latitude),) = self.to_system(self.places(middle), WGS84)
            around = CRS.from_proj4(f"+proj=laea +lat_0={latitude} +lon_0={longitude} +datum=WGS84 +units=m")
            sides = self._measured(middle, around)
        except _FAILURES:  # a system of a building site or of the moon
            self._own = own
        else:
            true = np.abs(np.linalg.det(sides[0]))
            if own is not None and abs(np.abs(np.linalg.det(own)) / true - 1) < _TRUE:
                self._own = own
            elif np.isfinite(true) and true > 0:
                self._projected = around
        if self.states_size:
            self.unit = "m"

    def places(self, centres: np.ndarray) -> np.ndarray:
        """See [`convlora.measuring.scale.Scale`]."""
        return self.corners_to_map(centres[:, ::-1] + 0.5)

    def corners_to_map(self, points: np.ndarray) -> np.ndarray:
        """Map coordinates of points, `(n, 2)` x and y in pixels, (0, 0) being the corner of the first pixel."""
        one = self.transform
        return points @ np.array([[one.a, one.d], [one.b, one.e]]) + np.array([one.c, one.f])

    def to_system(self, places: np.ndarray, system: Any) -> np.ndarray:
        """Map coordinates in another coordinate reference system, `(n, 2)`.

        Raises:
            RasterioError: If there is no way from one to the other.
        """
        return np.stack(transform(self._system, system, places[:, 0], places[:, 1]), axis=1)

    def sides(self, centres: np.ndarray) -> np.ndarray:
        """See [`convlora.measuring.scale.Scale`]."""
        if self._own is not None:
            return np.broadcast_to(self._own, (len(centres), 2, 2))
        if self._projected is not None:
            return self._measured(centres, self._projected)
        return super().sides(centres)

    def _measured(self, centres: np.ndarray, system: CRS) -> np.ndarray:
        if not len(centres):
            return np.zeros((0, 2, 2))
        middles = centres[:, None, ::-1] + 0.5
        around = middles + np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])
        places = self.to_system(self.corners_to_map(around.reshape(-1, 2)), system).reshape(-1, 4, 2)
        return places[:, [1, 3]] - places[:, [0, 2]]


def _name(system: CRS) -> str:
    """A short name, such as EPSG:32633."""
    authority = system.to_authority()
    if authority:
        return ":".join(authority)
    named = re.match(r'\w+\["([^"]+)"', system.to_wkt())
    return named[1] if named else "unnamed"
