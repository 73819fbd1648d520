"""Images as rows of 8-bit RGB, read piece by piece where the file format allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from convlora.data.reading.geo import GeoReference
from convlora.data.reading.images import Intensity, read_image, read_image_size, read_known
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
        reference: Where on earth it lies, if it says so.
    """

    height: int
    width: int
    reference: GeoReference | None

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """Rows `top` to `bottom` as `(rows, width, 3)` uint8, by the rules of `images.read_image`.

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

    def __init__(self, image: Image.Image, find_known: Callable[[], np.ndarray | None] = lambda: None) -> None:
        self._image, self._find_known = image, cache(find_known)
        self.height, self.width = image.height, image.width
        self.reference: GeoReference | None = None

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """See [`Rows`]."""
        return np.asarray(self._image.crop((left, top, self.width if right is None else right, bottom)))

    def known(self, top: int, bottom: int) -> np.ndarray | None:
        """See [`Rows`]."""
        known = self._find_known()
        return None if known is None else known[top:bottom]


@contextmanager
def open_rows(source: ImageSource | Image.Image | bytes, intensity: Intensity = "type") -> Iterator[Rows]:
    """Opens an image for reading by rows.

    TIFF files are read piece by piece if rasterio is installed, everything else is decoded whole first.

    Args:
        source: A file or its bytes, an image stored elsewhere, or one that is open.
        intensity: How values become 8 bits, see `images.read_image`. What depends on the image's largest
            or smallest value is decided for the whole image.

    Raises:
        InputError: If it cannot be read, or is too large to be decoded whole.
    """
    if isinstance(source, Path) and is_read_by_rows(source):
        from convlora.data.reading.tiff.rows import open_tiff

        with open_tiff(source, intensity) as rows:
            yield rows
    else:
        yield WholeImage(_decoded(source, intensity), partial(read_known, source))


def is_read_by_rows(path: Path) -> bool:
    """Whether a file is a TIFF that rasterio can read as Pillow would."""
    return is_tiff(path) and in_plain_colours(read_tags(path)) and has_rasterio()


def size_in_rows(source: ImageSource) -> tuple[int, int]:
    """(height, width) of an image by its header, of a TIFF file that is read by rows however large it is.

    Raises:
        InputError: If there is no such image.
    """
    layout = TiffLayout.of_file(source) if isinstance(source, Path) and is_read_by_rows(source) else None
    return read_image_size(source) if layout is None else layout.size


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


def _decoded(source: ImageSource | Image.Image | bytes, intensity: Intensity) -> Image.Image:
    try:
        return read_image(source, intensity)
    except InputError as error:
        too_large = isinstance(error.__cause__, Image.DecompressionBombError)
        if isinstance(source, Path) and too_large and is_tiff(source) and not has_rasterio():
            raise InputError(
                f"{source} is too large to be decoded whole. Install what reads TIFF files piece by piece: {INSTALL}."
            ) from error
        if too_large:
            name = "The image given" if isinstance(source, (bytes, Image.Image)) else source
            raise InputError(
                f"{name} is too large to be decoded whole. Convert it to a tiled TIFF in upright RGB, which is read "
                f"piece by piece (this needs {INSTALL})."
            ) from error
        raise
