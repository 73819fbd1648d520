"""Semantic maps written some rows at a time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from convlora.data.reading.colours import Colour
from convlora.data.reading.geo import GeoReference
from convlora.inference.files.plan import GEO_SUFFIX
from convlora.storage import SOFTWARE, replacing_file


class MapWriter(Protocol):
    """A file that is being written, from top to bottom."""

    def write(self, semantic_map: np.ndarray) -> None:
        """Adds rows `(rows, width)` of classes."""


@contextmanager
def open_map(
    path: Path,
    size: tuple[int, int],
    colours: Sequence[Colour],
    reference: GeoReference | None = None,
    nodata: int | None = None,
    plain: bool = False,
) -> Iterator[MapWriter]:
    """Opens the file of a semantic map: a GeoTIFF if it is called so, else a PNG.

    It has its name only once it is whole.

    Args:
        path: Where it goes.
        size: (height, width) in pixels.
        colours: Colour of each class; with more than 256 the file holds the classes alone, in 16 bits.
        reference: Where on earth it lies.
        nodata: The value of pixels that have no class, which only a GeoTIFF can state.
        plain: Whether the file holds the classes alone in any case.
    """
    with replacing_file(path) as temporary:
        if path.suffix == GEO_SUFFIX:
            from convlora.inference.files.geo_tiff import open_geo_tiff

            with open_geo_tiff(temporary, path, size, colours, reference, nodata, plain) as geo_tiff:
                yield geo_tiff
        else:
            with temporary.open("wb") as stream:
                png = PngMap(stream, size, colours, plain)
                yield png
                png.finish()


class PngMap:
    """A PNG whose pixel values are the classes, see `convlora.pictures.palette.indexed_image`.

    Pillow can only write an image that it holds whole, so the chunks are made here.
    """

    def __init__(
        self, stream: IO[bytes], size: tuple[int, int], colours: Sequence[Colour], plain: bool = False
    ) -> None:
        self._stream = stream
        # By the lengths of runs, as `convlora.pictures.png` does it.
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
        self._is_deep = len(colours) > 256
        height, width = size
        stream.write(b"\x89PNG\r\n\x1a\n")
        depth, grey, palette = (16 if self._is_deep else 8), 0, 3
        is_grey = self._is_deep or plain
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, grey if is_grey else palette, 0, 0, 0))
        if not is_grey:
            filled = [*colours, *[(255, 255, 255)] * (256 - len(colours))]
            self._chunk(b"PLTE", bytes(channel for colour in filled for channel in colour))
        self._chunk(b"tEXt", b"Software\0" + SOFTWARE.encode("latin-1"))

    def write(self, semantic_map: np.ndarray) -> None:
        """See [`MapWriter`]."""
        values = semantic_map.astype(">u2" if self._is_deep else np.uint8)
        rows = values.view(np.uint8).reshape(len(values), -1)
        unfiltered = np.zeros((len(rows), 1), np.uint8)  # each row begins with how it is filtered
        self._chunk(b"IDAT", self._deflate.compress(np.concatenate([unfiltered, rows], axis=1).tobytes()))

    def finish(self) -> None:
        """Writes what is left."""
        self._chunk(b"IDAT", self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _chunk(self, name: bytes, content: bytes) -> None:
        self._stream.write(struct.pack(">I", len(content)) + name + content)
        self._stream.write(struct.pack(">I", zlib.crc32(name + content)))
