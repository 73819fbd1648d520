"""From pixels to units and to coordinates."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from convlora.measuring.pixel_size import PixelSize


class Scale(Protocol):
    """What pixels of one image stand for.

    Attributes:
        unit: Unit of lengths, such as `um` or `m`; None if it is not known.
        crs: Name of the coordinate reference system of places; None if there is none.
    """

    unit: str | None
    crs: str | None

    def sides(self, centres: np.ndarray) -> np.ndarray:
        """What one pixel to the right and one down are in units, `(n, 2, 2)`: x and y of the first, of the second.

        Args:
            centres: Rows and columns, `(n, 2)`; (0, 0) is the middle of the first pixel.
        """

    def places(self, centres: np.ndarray) -> np.ndarray | None:
        """Map coordinates x and y, `(n, 2)`; None if there are none."""


class PlainScale:
    """Pixels of one size everywhere, or of none that is known.

    Args:
        pixel_size: Pixel size of the image; None: it is not known.
    """

    def __init__(self, pixel_size: PixelSize | None = None) -> None:
        self._pixel_size = pixel_size
        self.unit = None if pixel_size is None else pixel_size.unit
        self.crs: str | None = None

    def sides(self, centres: np.ndarray) -> np.ndarray:
        """See [`Scale`]."""
        size = self._pixel_size or PixelSize(1, 1, "")
        return np.broadcast_to(np.array([[size.width, 0], [0, size.height]]), (len(centres), 2, 2))

    def places(self, centres: np.ndarray) -> np.ndarray | None:
        """See [`Scale`]."""
        return None
