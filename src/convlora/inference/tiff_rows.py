"""TIFF files read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window

from convlora.data.images import Intensity
from convlora.data.intensities import PIECE, Scale, scale_of, scaled
from convlora.data.no_data import known_pixels, missing_values
from convlora.data.tiff_tags import no_data_value, premultiplied, states_no_data
from convlora.errors import InputError
from convlora.inference.gdal import gdal
from convlora.inference.geo import GeoReference
from convlora.inference.tiff_header import read_tags
from convlora.untrusted import ordinary

_MOST_READ = 1 << 27  # values to read at a time


@contextmanager
def open_tiff(path: Path, intensity: Intensity = "type") -> Iterator[TiffRows]:
    """Opens a TIFF file for reading by rows, see `convlora.inference.rows.Rows`.

    Raises:
        InputError: If it is damaged, or its values have no known range.
    """
    with _reading(path):
        dataset = rasterio.open(ordinary(path), driver="GTiff")
    with dataset:
        yield TiffRows(dataset, path, intensity)


def reference_of(path: Path) -> GeoReference | None:
    """Where on earth a TIFF file lies; None if it does not say so, or is damaged."""
    try:
        with _reading(path), rasterio.open(ordinary(path), driver="GTiff") as dataset:
            return GeoReference.of(dataset)
    except InputError:
        return None  # whoever reads its pixels will complain


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with gdal():
            yield
    except RasterioError as error:
        raise InputError(f"{path} is damaged and cannot be read. Replace the file.") from error


class TiffRows:
    """Rows of an open data set.

    Args:
        dataset: Of rasterio.
        path: Its file.
        intensity: How values become 8 bits. Where this depends on the largest or smallest value, all pixels are read
            once to find it.
    """

    def __init__(self, dataset: Any, path: Path, intensity: Intensity) -> None:
        self._dataset, self._path = dataset, path
        self.height, self.width = dataset.height, dataset.width
        self.reference = GeoReference.of(dataset)
        tags = read_tags(path)
        # What a file beside the image states is known to GDAL alone.
        self._no_data = no_data_value(tags) if states_no_data(tags) else dataset.nodata
        kind = np.dtype(dataset.dtypes[0])
        if kind.kind not in "uif":
            raise InputError(f"{path} holds complex numbers, which are no image. Convert it to numbers of one part.")
        is_colour = dataset.count >= 3
        # Colours under associated alpha are too dark by it, so it is read to be undone; other alpha is dropped.
        self._undo_alpha = premultiplied(tags) and dataset.count in (2, 4)
        self._bands = [1, 2, 3] if is_colour else [1]
        if self._undo_alpha:
            self._bands.append(dataset.count)
        self._palette = _palette(dataset)
        self._bits, self._is_inverted = _structure(dataset)
        # Pillow reads 16-bit colours by their upper byte, and so did training.
        self._upper_byte = kind == np.uint16 and (is_colour or self._undo_alpha)
        self._is_deep = kind != np.uint8 and not self._upper_byte
        self._scale = self._find_scale(kind, intensity)

    def _find_scale(self, kind: np.dtype, intensity: Intensity) -> Scale | None:
        if intensity == "type" and not self._is_deep:
            return None
        return scale_of(map(self._ranged, self._native_pieces()), kind, intensity, str(self._path))

    def read(self, top: int, bottom: int) -> np.ndarray:
        """See `convlora.inference.rows.Rows`; pixels without data are black."""
        native = self._native(top, bottom)
        pixels = np.empty((bottom - top, self.width, 3), np.uint8)
        step = max(1, PIECE // (self.width * len(self._bands)))
        for first in range(0, bottom - top, step):
            piece = native[:, first : first + step]
            values = piece if self._is_deep else self._eight_bits(piece)
            missing = self._missing_values(piece)
            if self._is_deep and missing is not None and self._scale is not None:
                values = np.where(missing, self._scale.low, values)
            eight = values if self._scale is None else scaled(values, self._scale)
            pixels[first : first + step] = np.moveaxis(
                eight if missing is None else eight * known_pixels(missing, 0), 0, -1
            )
        return pixels

    def known(self, top: int, bottom: int) -> np.ndarray | None:
        """See `convlora.inference.rows.Rows`: a pixel has data if one of its bands has."""
        if self._no_data is None:
            return None
        missing = self._missing_values(self._native(top, bottom))
        return None if missing is None else known_pixels(missing, 0)

    def _native(self, top: int, bottom: int) -> np.ndarray:
        with _reading(self._path):
            return self._dataset.read(self._bands, window=Window(0, top, self.width, bottom - top))

    def _native_pieces(self) -> Iterator[np.ndarray]:
        """All rows, as many at a time as lie together in the file, unless that is much."""
        together = min(max(self._dataset.block_shapes[0][0], 64), 1024)
        step = max(1, min(together, _MOST_READ // (self.width * len(self._bands))))
        for top in range(0, self.height, step):
            yield self._native(top, min(top + step, self.height))

    def _missing_values(self, native: np.ndarray) -> np.ndarray | None:
        return None if self._no_data is None else missing_values(native, self._no_data)

    def _ranged(self, native: np.ndarray) -> np.ndarray:
        """The values that decide on the range."""
        missing = self._missing_values(native)
        if self._is_deep:
            return native if missing is None else native[~missing]
        values = self._eight_bits(native)
        return values if missing is None else values[:, known_pixels(missing, 0)]

    def _eight_bits(self, native: np.ndarray) -> np.ndarray:
        """Values of at most 8 bits, or colours of 16, as `(3, rows, width)` or `(1, rows, width)` uint8."""
        if self._palette is not None:
            return np.moveaxis(self._palette[native[0]], -1, 0)
        values = (native >> 8).astype(np.uint8) if self._upper_byte else native
        if self._bits < 8:
            values = values * np.uint8(255 // (2**self._bits - 1))
        if self._is_inverted:
            values = 255 - values
        return _without_alpha(values) if self._undo_alpha else values


def _palette(dataset: Any) -> np.ndarray | None:
    """Colours of the indices, `(256, 3)`; None if the values are no indices."""
    if dataset.colorinterp[0] != ColorInterp.palette:
        return None
    colours = np.zeros((256, 3), np.uint8)
    for index, colour in dataset.colormap(1).items():
        if index < 256:
            colours[index] = colour[:3]
    return colours


def _structure(dataset: Any) -> tuple[int, bool]:
    """Bits of a value, and whether 0 is white."""
    bits = int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
    return bits, dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"


def _without_alpha(values: np.ndarray) -> np.ndarray:
    mode, full, plain = ("La", "LA", "L") if len(values) == 2 else ("RGBa", "RGBA", "RGB")
    height, width = values.shape[1:]
    image = Image.frombytes(mode, (width, height), np.moveaxis(values, 0, -1).tobytes())
    colours = np.asarray(image.convert(full))[..., : len(plain)]
    return np.moveaxis(colours, -1, 0)
