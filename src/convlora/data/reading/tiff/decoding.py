"""TIFF files decoded by tifffile, and by rasterio where that lacks a decoder."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from convlora.data.reading.tiff.header import directories, is_own_page, mask_page
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.data.reading.tiff.size import check_size
from convlora.data.reading.tiff.tags import tags_of
from convlora.errors import InputError
from convlora.ordinary import open_ordinary, ordinary

INSTALL = "pip install 'convlora[geo]'"


def decode(content: Path | bytes, layout: TiffLayout, name: str) -> np.ndarray:
    """All channels of the first page, `(channels, height, width)`, as they are stored.

    Args:
        content: The file, or its bytes.
        layout: Layout of the page.
        name: Name of the file, for messages.

    Raises:
        InputError: Nothing that is installed decodes it.
    """
    native = _by_tifffile(content, layout, 0)
    if native is None:
        with _opened(content, f"{name} is a compressed TIFF file with {layout.describe()}") as dataset:
            native = dataset.read()
    return native.astype(layout.dtype, copy=False)


def decode_pages(content: Path | bytes, layout: TiffLayout, pages: int, name: str) -> np.ndarray:
    """The pages of a file, each of one channel, as one image: `(pages, height, width)`, as they are stored.

    Args:
        content: The file, or its bytes.
        layout: Layout of the first page; the others must be like it.
        pages: How many there are, see `convlora.data.reading.tiff.header.number_of_pages`.
        name: Name of the file, for messages.

    Raises:
        InputError: The pages differ, or nothing that is installed decodes them.
    """
    import tifffile

    shape = (pages, layout.height, layout.width)
    check_size(layout, content, name)
    if 2 * pages * layout.height * layout.width * layout.dtype.itemsize > psutil.virtual_memory().available:
        raise MemoryError
    found = [(number, TiffLayout.of(tags)) for number, tags in enumerate(directories(content)) if is_own_page(tags)]
    if len(found) == 1:  # a large stack of ImageJ, whose other pages have no headers
        stream = io.BytesIO(content) if isinstance(content, bytes) else open_ordinary(content)
        with stream, tifffile.TiffFile(stream) as file:
            stack = np.asarray(file.series[0].asarray(maxworkers=1))
        if stack.size != np.prod(shape):
            raise ValueError("the header says two things")
        return stack.reshape(shape).astype(layout.dtype, copy=False)
    values = np.empty(shape, layout.dtype)
    for place, (number, own) in enumerate(found):
        if own is None or (own.height, own.width, own.samples, own.dtype) != (*shape[1:], 1, layout.dtype):
            raise InputError(
                f"Page {place + 1} of {name} has another size or type of values than the first, so that the pages are "
                "no bands of one image. Save the bands with the same size and type."
            )
        native = _by_tifffile(content, own, number)
        if native is None:
            raise InputError(
                f"{name} is a compressed TIFF file with {pages} pages, which cannot be read as bands. Save it without "
                "compression, or with deflate or LZW."
            )
        values[place] = native[0]
    return values


def mask_of(content: Path | bytes, layout: TiffLayout, name: str) -> np.ndarray | None:
    """Which pixels hold data by a mask in the file or beside it, `(height, width)` bool; None if there is none.

    Args:
        content: The file, or its bytes.
        layout: Layout of its first page.
        name: Name of the file, for messages.

    Raises:
        InputError: Nothing that is installed decodes it.
    """
    page, source = mask_page(content), content
    if page is None:
        beside = None if isinstance(content, bytes) else content.with_name(f"{content.name}.msk")  # as GDAL has it
        if beside is None or not os.path.isfile(beside):  # noqa: PTH113 - it may be too long a name
            return None
        page, source = 0, beside
    tags = next((tags for number, tags in enumerate(directories(source)) if number == page), {})
    found = TiffLayout.of(tags)
    if found is None or (found.height, found.width) != (layout.height, layout.width):
        return None
    check_size(found, source, name)
    native = _by_tifffile(source, found, page)
    if native is None:
        with _opened(content, f"{name} has a compressed mask of where it holds data") as dataset:
            native = dataset.dataset_mask()[None]
    return np.asarray(native.any(axis=0))


def mask_of_image(opened: Image.Image, name: str) -> np.ndarray | None:
    """As [`mask_of`], of a TIFF file that Pillow has opened and not yet decoded; None for other files."""
    layout, file = TiffLayout.of(tags_of(opened)), file_of(opened)
    return None if layout is None or file is None else mask_of(file, layout, name)


def file_of(opened: Image.Image) -> Path | bytes | None:
    """Where an image comes from that Pillow has opened and not yet decoded, or the bytes of it; None if it is gone."""
    stream: Any = getattr(opened, "fp", None)
    if isinstance(stream, io.BytesIO):
        return stream.getvalue()
    path = getattr(stream, "name", None)
    return Path(path) if isinstance(path, (str, Path)) else None


def _by_tifffile(content: Path | bytes, layout: TiffLayout, page: int) -> np.ndarray | None:
    """All channels of a page; None if tifffile lacks a decoder."""
    import tifffile

    needed = 2 * layout.height * layout.width * layout.samples * layout.dtype.itemsize
    if needed > psutil.virtual_memory().available:  # the system would not refuse it, but end the process later
        raise MemoryError
    stream = io.BytesIO(content) if isinstance(content, bytes) else open_ordinary(content)
    with stream, tifffile.TiffFile(stream) as file:
        found: Any = file.pages[page]
        try:
            decoded = found.asarray(maxworkers=1)
        except ValueError as error:
            if "imagecodecs" in str(error):  # which would bring the decoder
                return None
            raise
        separate, _, height, width, together = found.shaped
    values = np.asarray(decoded).reshape(separate, height, width, together)
    values = values[..., 0] if together == 1 else np.moveaxis(values[0], -1, 0)
    if values.shape != (layout.samples, layout.height, layout.width):
        raise ValueError("the header says two things")
    return values


@contextmanager
def _opened(content: Path | bytes, why: str) -> Iterator[Any]:
    """A data set of rasterio."""
    try:
        import rasterio
    except ImportError as error:
        raise InputError(f"{why}. Install what reads it: {INSTALL}.") from error
    from convlora.data.reading.gdal import gdal

    with gdal():
        if isinstance(content, bytes):
            with rasterio.MemoryFile(content) as memory, memory.open(driver="GTiff") as dataset:
                yield dataset
        else:
            with rasterio.open(ordinary(content), driver="GTiff") as dataset:
                yield dataset
