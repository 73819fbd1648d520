"""PNG files that take little time to write."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from convlora.storage import SOFTWARE

_PIECE = 1 << 20  # bytes compressed at a time
_ABOVE = 2  # the filter by which a row holds the differences from the row above it
_RGB = 2


def write_png(image: Image.Image, stream: BinaryIO) -> None:
    """Writes a PNG file with a note of what made it.

    Maps of classes are compressed by the lengths of their runs, which takes a quarter of the time of the best
    compression and gives files of the same size. The noise of photographs cannot be compressed, so the effort is spent
    on differences between rows alone: an eighth of the time of Pillow's default, and files of the same size.

    Args:
        image: Image of any mode that PNG has.
        stream: Where to.
    """
    if image.mode == "RGB":
        _write_rgb(np.asarray(image), stream)
        return
    made_by = PngInfo()
    made_by.add_text("Software", SOFTWARE)
    image.save(stream, format="PNG", compress_type=zlib.Z_RLE, pnginfo=made_by)


def _write_rgb(pixels: np.ndarray, stream: BinaryIO) -> None:
    """Writes `(H, W, 3)` uint8 by the PNG specification (ISO/IEC 15948), whose names the chunks have."""
    height, width, _ = pixels.shape
    stream.write(b"\x89PNG\r\n\x1a\n")
    write_chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0))
    write_chunk(stream, b"tEXt", b"Software\0" + SOFTWARE.encode("latin-1"))
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_FILTERED)
    values = pixels.reshape(height, -1)
    above = np.zeros(values.shape[1:], np.uint8)
    step = max(1, _PIECE // values.shape[1])
    for top in range(0, height, step):
        rows = values[top : top + step]
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = _ABOVE
        np.subtract(rows[0], above, out=filtered[0, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above = rows[-1]
        write_chunk(stream, b"IDAT", deflate.compress(filtered.data))
    write_chunk(stream, b"IDAT", deflate.flush())
    write_chunk(stream, b"IEND", b"")


def write_chunk(stream: BinaryIO, name: bytes, content: bytes) -> None:
    """Writes a chunk of a PNG file with its length and checksum."""
    stream.write(struct.pack(">I", len(content)) + name)
    stream.write(content)
    stream.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(name))))
