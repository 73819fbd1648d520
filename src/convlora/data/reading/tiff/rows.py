"""TIFF files read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from convlora.data.reading.gdal import gdal
from convlora.data.reading.geo import GeoReference
from convlora.data.reading.images import Intensity
from convlora.data.reading.intensities import Scale
from convlora.data.reading.tiff.header import read_tags
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.data.reading.tiff.size import check_size
from convlora.data.reading.tiff.tags import states_no_data
from convlora.data.reading.tiff.values import Native, TiffValues
from convlora.errors import InputError
from convlora.ordinary import ordinary

_MOST_READ = 1 << 27  # values to read at a time
_LARGEST_BLOCK = 178_956_970  # pixels, as many as of images of other formats
_MOST_SCALES = 4096
_SCALES: dict[tuple[str, int, int, str], Scale | None] = {}  # by what tells a file and its state from others
_OF_VALUES = {MaskFlags.all_valid, MaskFlags.alpha, MaskFlags.nodata}  # there is no mask beside the channels


@contextmanager
def open_tiff(path: Path, intensity: Intensity = "type") -> Iterator[TiffRows]:
    """Opens a TIFF file for reading by rows, see `convlora.data.reading.rows.Rows`.

    Raises:
        InputError: If it is damaged, or its values have no known range.
    """
    with reading_rows(path):
        dataset = rasterio.open(ordinary(path), driver="GTiff")
    with dataset:
        yield TiffRows(dataset, path, intensity)


def reference_of(path: Path) -> GeoReference | None:
    """Where on earth a TIFF file lies; None if it does not say so, or is damaged."""
    try:
        with reading_rows(path), rasterio.open(ordinary(path), driver="GTiff") as dataset:
            return GeoReference.of(dataset)
    except InputError:
        return None  # reading its pixels reports that


@contextmanager
def reading_rows(path: Path) -> Iterator[None]:
    """Turns what GDAL raises into a sentence that names the file.

    Raises:
        InputError: If it is damaged.
    """
    try:
        with gdal():
            yield
    except RasterioError as error:
        raise InputError(f"{path} is damaged and cannot be read. Replace the file.") from error


def check_blocks(dataset: Any, path: Path) -> None:
    """Refuses a file if no part of it can be read without decoding too much.

    Raises:
        InputError: If it is one.
    """
    rows, columns = dataset.block_shapes[0]
    if rows * columns > _LARGEST_BLOCK:
        raise InputError(
            f"{path} stores {columns} x {rows} pixels in one piece, which is too much to be decoded at once. "
            "Convert it to a tiled TIFF: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE -co BIGTIFF=IF_SAFER."
        )


class TiffPieces:
    """Values of an open data set, some rows at a time.

    Args:
        dataset: Dataset of rasterio.
        path: Its file.

    Raises:
        InputError: If it is damaged, or stores too much in one piece.
    """

    def __init__(self, dataset: Any, path: Path) -> None:
        self._dataset, self.path = dataset, path
        self.height, self.width = dataset.height, dataset.width
        self.reference = GeoReference.of(dataset)
        tags = read_tags(path)
        layout = TiffLayout.of(tags)
        if layout is None or (layout.height, layout.width) != (self.height, self.width):
            raise InputError(f"{path} is damaged and cannot be read. Replace the file.")
        layout.check(str(path))
        check_size(layout, path, str(path))
        check_blocks(dataset, path)
        self.layout = layout
        # What a file beside the image states is known to GDAL alone.
        self.no_data: float | None = layout.no_data if states_no_data(tags) else dataset.nodata
        self.has_mask = not _OF_VALUES & set(dataset.mask_flag_enums[0])

    def native(self, bands: list[int], top: int, bottom: int, left: int = 0, right: int | None = None) -> Native:
        """Rows of some bands, counted from 1, as they are stored, and the file's own mask.

        Of them columns `left` to `right` alone; None: up to the last.
        """
        window = Window(left, top, (self.width if right is None else right) - left, bottom - top)
        with reading_rows(self.path):
            values = self._dataset.read(bands, window=window)
            return values, self._dataset.dataset_mask(window=window) != 0 if self.has_mask else None

    def sampled(self, bands: list[int], step: int) -> Native:
        """Every so many pixels of some bands, in both directions, and the file's own mask there."""
        size = (-(-self.height // step), -(-self.width // step))
        with reading_rows(self.path):
            values = self._dataset.read(bands, out_shape=(len(bands), *size))
            return values, self._dataset.dataset_mask(out_shape=size) != 0 if self.has_mask else None

    def all_native(self, bands: list[int]) -> Iterator[Native]:
        """All rows, as many at a time as lie together in the file, unless that is much."""
        together = min(max(self._dataset.block_shapes[0][0], 64), 1024)
        step = max(1, min(together, _MOST_READ // (self.width * len(bands))))
        for top in range(0, self.height, step):
            yield self.native(bands, top, min(top + step, self.height))


class TiffRows:
    """Rows of an open data set, as RGB.

    Args:
        dataset: Dataset of rasterio.
        path: Its file.
        intensity: How values become 8 bits. Where this depends on the largest or smallest value, all pixels are read
            once to find it.
    """

    channels = 3

    def __init__(self, dataset: Any, path: Path, intensity: Intensity) -> None:
        self._pieces = TiffPieces(dataset, path)
        self.height, self.width, self.reference = self._pieces.height, self._pieces.width, self._pieces.reference
        self._values = TiffValues(self._pieces.layout, self._pieces.no_data, intensity, str(path))
        self._bands = [channel + 1 for channel in self._values.channels]
        if self._values.decides_on_all:
            self._settle_scale(path, intensity)

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """See `convlora.data.reading.rows.Rows`; pixels without data are black."""
        return self._values.rgb(*self._pieces.native(self._bands, top, bottom, left, right))

    def known(self, top: int, bottom: int) -> np.ndarray | None:
        """See `convlora.data.reading.rows.Rows`: what rasterio's `dataset_mask` says."""
        if not (self._values.may_lack_data or self._pieces.has_mask):
            return None
        return self._values.known(*self._pieces.native(self._bands, top, bottom))

    def _settle_scale(self, path: Path, intensity: Intensity) -> None:
        """Finds out how values become 8 bits; of a file that training reads again and again, once."""
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size, intensity)
        if key not in _SCALES:
            self._values.find_scale(self._pieces.all_native(self._bands))
            if len(_SCALES) >= _MOST_SCALES:
                _SCALES.clear()
            _SCALES[key] = self._values.scale
        self._values.scale = _SCALES[key]
