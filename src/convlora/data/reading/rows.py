"""Images as rows of 8-bit RGB, read piece by piece where the file format allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from convlora.data.reading.band_files import BandSource, pages_are_bands
from convlora.data.reading.bands import BandImage, BandReading, Reading
from convlora.data.reading.geo import GeoReference
from convlora.data.reading.read import read_as, read_known, read_size
from convlora.data.reading.stored import ImageSource
from convlora.data.reading.tiff.decoding import INSTALL
from convlora.data.reading.tiff.header import in_plain_colours, is_tiff, read_tags
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.errors import InputError


class Rows(Protocol):
    """An image that is read in bands of rows.

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: Number of channels that are read: 3, or that of the bands.
        reference: Where on earth it lies, if it says so.
    """

    height: int
    width: int
    channels: int
    reference: GeoReference | None

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """Rows `top` to `bottom` as `(rows, width, channels)` uint8, by the rules of `read.read_as`.

        Of them columns `left` to `right` alone; None: up to the last.
        """

    def known(self, top: int, bottom: int) -> np.ndarray | None:
        """Which pixels of these rows hold data, `(rows, width)` bool; None: all."""


class WholeImage:
    """An image that has been decoded already.

    Args:
        image: The image.
        find_known: Finds out which of its pixels hold data, `(H, W)` bool, or None for all; called when asked for.
    """

    def __init__(
        self, image: Image.Image | BandImage, find_known: Callable[[], np.ndarray | None] = lambda: None
    ) -> None:
        self._image, self._find_known = image, cache(find_known)
        self.height, self.width = image.height, image.width
        self.channels = image.pixels.shape[-1] if isinstance(image, BandImage) else 3
        self.reference: GeoReference | None = None

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """See [`Rows`]."""
        end = self.width if right is None else right
        if isinstance(self._image, BandImage):
            return self._image.pixels[top:bottom, left:end]
        return np.asarray(self._image.crop((left, top, end, bottom)))

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; Pillow stores RGB with four for each pixel."""
        return self._image.pixels.nbytes if isinstance(self._image, BandImage) else 4 * self.height * self.width

    def known(self, top: int, bottom: int) -> np.ndarray | None:
        """See [`Rows`]."""
        known = self._find_known()
        return None if known is None else known[top:bottom]


@contextmanager
def open_rows(source: BandSource, reading: Reading = "type") -> Iterator[Rows]:
    """Opens an image for reading by rows.

    TIFF files are read piece by piece if rasterio is installed, everything else is decoded whole first.

    Args:
        source: A file or its bytes, an image stored elsewhere, or one that is open.
        reading: How values become 8 bits, see `images.read_image`, or which bands are read. What depends on the
            image's largest or smallest value is decided for the whole image.

    Raises:
        InputError: If it cannot be read, or is too large to be decoded whole.
    """
    if not (isinstance(source, Path) and is_read_by_rows(source)):
        yield WholeImage(_decoded(source, reading), partial(read_known, source, reading))
    elif not isinstance(reading, BandReading):
        from convlora.data.reading.tiff.rows import open_tiff

        with open_tiff(source, reading) as rows:
            yield rows
    elif reading.ranges is None or pages_are_bands(source):
        yield WholeImage(_decoded(source, reading), partial(read_known, source, reading))
    else:
        from convlora.data.reading.tiff.band_rows import open_band_rows

        with open_band_rows(source, reading) as band_rows:
            yield band_rows


def is_read_by_rows(path: Path) -> bool:
    """Whether a file is a TIFF that rasterio can read as Pillow would."""
    return is_tiff(path) and in_plain_colours(read_tags(path)) and has_rasterio()


def size_in_rows(source: ImageSource, reading: Reading = "type") -> tuple[int, int]:
    """(height, width) of an image by its header, of a TIFF file that is read by rows however large it is.

    Raises:
        InputError: If there is no such image.
    """
    layout = TiffLayout.of_file(source) if isinstance(source, Path) and is_read_by_rows(source) else None
    return read_size(source, reading) if layout is None else layout.size


def is_huge(source: ImageSource) -> bool:
    """Whether an image is too large to be decoded whole, but can be read by rows."""
    if not isinstance(source, Path) or not is_read_by_rows(source):
        return False
    layout = TiffLayout.of_file(source)
    return layout is not None and layout.height * layout.width > 2 * (Image.MAX_IMAGE_PIXELS or 0)


def reference_of(path: Path) -> GeoReference | None:
    """Where on earth an image lies; None if it does not say so, or could not be read by rows."""
    if not is_read_by_rows(path):
        return None
    from convlora.data.reading.tiff.rows import reference_of

    return reference_of(path)


def has_rasterio() -> bool:
    """Whether the extra for TIFF files is installed."""
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return True


def _decoded(source: BandSource, reading: Reading) -> Image.Image | BandImage:
    try:
        return read_as(source, reading)
    except InputError as error:
        too_large = isinstance(error.__cause__, Image.DecompressionBombError)
        if isinstance(source, Path) and too_large and is_tiff(source) and not has_rasterio():
            raise InputError(
                f"{source} is too large to be decoded whole. Install what reads TIFF files piece by piece: {INSTALL}."
            ) from error
        if too_large:
            name = "The image given" if isinstance(source, (bytes, Image.Image, np.ndarray)) else source
            raise InputError(
                f"{name} is too large to be decoded whole. Convert it to a tiled TIFF in upright RGB, which is read "
                f"piece by piece (this needs {INSTALL})."
            ) from error
        raise
