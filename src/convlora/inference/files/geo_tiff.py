"""Semantic maps and probabilities as GeoTIFF."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

from convlora.data.reading.colours import Colour
from convlora.data.reading.gdal import gdal
from convlora.data.reading.geo import GeoReference
from convlora.errors import RunError
from convlora.storage import SOFTWARE

_BLOCK = 256  # pixels, the side of the file's own tiles


@contextmanager
def open_geo_tiff(
    temporary: Path,
    path: Path,
    size: tuple[int, int],
    colours: Sequence[Colour],
    reference: GeoReference | None,
    nodata: int | None,
    plain: bool = False,
) -> Iterator[GeoTiffMap]:
    """Opens a tiled and compressed GeoTIFF of one band, with a colour table if there are at most 256 classes.

    Args:
        temporary: Where it is written.
        path: What it will be called, for messages.
        size: (height, width) in pixels.
        colours: Colour of each class.
        reference: Where on earth it lies.
        nodata: The value of pixels that have no class.
        plain: Whether there is no colour table in any case.

    Raises:
        RunError: If it cannot be written.
    """
    kind = "uint8" if len(colours) <= 256 else "uint16"

    def describe(dataset: Any) -> None:
        if len(colours) <= 256 and not plain:
            dataset.write_colormap(1, {index: (*colour, 255) for index, colour in enumerate(colours)})

    profile = {"count": 1, "dtype": kind, "nodata": nodata}
    with _opened(temporary, path, size, reference, profile, describe) as geo_tiff:
        yield geo_tiff


@contextmanager
def open_probability_geo_tiff(
    temporary: Path,
    path: Path,
    size: tuple[int, int],
    names: Sequence[str],
    reference: GeoReference | None,
    nodata: int,
    full: int,
    description: str,
) -> Iterator[GeoTiffMap]:
    """Opens a GeoTIFF of 16-bit probabilities, with a band for each class.

    Args:
        temporary: Where it is written.
        path: What it will be called, for messages.
        size: (height, width) in pixels.
        names: Names of the classes that have a band.
        reference: Where on earth it lies.
        nodata: The value of pixels that have none.
        full: The value that stands for 1; the bands name it as their scale.
        description: For the tag of this name.

    Raises:
        RunError: If it cannot be written.
    """

    def describe(dataset: Any) -> None:
        dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
        dataset.descriptions = tuple(names)
        dataset.scales = (1 / full,) * len(names)

    profile = {
        "count": len(names),
        "dtype": "uint16",
        "nodata": nodata,
        "interleave": "band",
        "photometric": "minisblack",
    }
    with _opened(temporary, path, size, reference, profile, describe) as geo_tiff:
        yield geo_tiff


@contextmanager
def _opened(
    temporary: Path,
    path: Path,
    size: tuple[int, int],
    reference: GeoReference | None,
    profile: dict[str, Any],
    describe: Callable[[Any], None],
) -> Iterator[GeoTiffMap]:
    profile = profile | {
        "driver": "GTiff",
        "height": size[0],
        "width": size[1],
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
    }
    if reference is not None:
        if reference.points:
            # Points may name no system; rasterio takes an empty one then, but not None.
            profile |= {"gcps": list(reference.points), "crs": reference.points_crs or CRS()}
        else:
            profile |= {"crs": reference.crs, "transform": reference.transform}
    with _writing(path):
        dataset = rasterio.open(temporary, "w", **profile)
        dataset.update_tags(TIFFTAG_SOFTWARE=SOFTWARE)
        describe(dataset)
    try:
        geo_tiff = GeoTiffMap(dataset, path)
        yield geo_tiff
        geo_tiff.finish()
    finally:
        with _writing(path):
            dataset.close()
    # What was still in memory is written when the file is closed, and an error of that, as of a full disk, is not told.
    with _writing(path), rasterio.open(temporary) as written:
        for _, window in written.block_windows(1):
            written.read(window=window)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    # GDAL may put a second file beside the temporary one, which nobody would rename; PAM is what it calls these.
    try:
        with gdal(GDAL_PAM_ENABLED="NO"):
            yield
    except RasterioError as error:
        raise RunError(f"{path} could not be written. Check the space left on the disk, and run it again.") from error


class GeoTiffMap:
    """A GeoTIFF that is being written, see `convlora.inference.files.writers.MapWriter`."""

    def __init__(self, dataset: Any, path: Path) -> None:
        self._dataset, self._path = dataset, path
        self._waiting = np.empty((dataset.count, 0, dataset.width), dataset.dtypes[0])
        self._done = 0

    def write(self, rows: np.ndarray) -> None:
        """Adds rows, `(rows, width)`, or of several bands `(bands, rows, width)`."""
        new = rows.astype(self._waiting.dtype).reshape(-1, *rows.shape[-2:])
        self._waiting = np.concatenate([self._waiting, new], axis=1)
        # A compressed block that is written in two goes leaves the first one behind as waste.
        self._put(self._waiting.shape[1] // _BLOCK * _BLOCK)

    def finish(self) -> None:
        """Writes what is left."""
        self._put(self._waiting.shape[1])

    def _put(self, number: int) -> None:
        if number:
            with _writing(self._path):
                window = Window(0, self._done, self._dataset.width, number)
                self._dataset.write(self._waiting[:, :number], window=window)
            self._waiting, self._done = self._waiting[:, number:], self._done + number
