"""Arrays in files of NumPy (`.npy`), read without running anything that is in them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import psutil
from PIL import Image

from convlora.errors import InputError
from convlora.ordinary import open_ordinary

_MAGIC = b"\x93NUMPY"


class ArrayHeader(NamedTuple):
    """What the head of a file says.

    Attributes:
        shape: Shape of the array.
        dtype: Type of its values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype


def is_numpy(content: Path | bytes) -> bool:
    """Whether a file, or its bytes, begin as files of NumPy do."""
    if isinstance(content, bytes):
        return content.startswith(_MAGIC)
    try:
        with open_ordinary(content) as stream:
            return bytes(stream.read(len(_MAGIC))) == _MAGIC
    except OSError:
        return False


def bands_first(array: np.ndarray, name: str) -> np.ndarray:
    """An array of an image as `(bands, H, W)`.

    `(H, W)` is one band. With three axes, the bands are the shorter one of the first and the last axis, or the last one
    if both are of the same length.

    Raises:
        InputError: If it has other axes, or no pixels.
    """
    if array.ndim == 2:
        array = array[None]
    axis = _axis(array.shape, name)
    return array if axis == 0 else np.moveaxis(array, -1, 0)


def shape_of(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """(bands, height, width) of an array by the rule of [`bands_first`]."""
    if len(shape) == 2:
        shape = (1, *shape)
    if _axis(shape, name) == 0:
        return shape[0], shape[1], shape[2]
    return shape[2], shape[0], shape[1]


def _axis(shape: tuple[int, ...], name: str) -> int:
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            f"{name} is an array of the shape {shape}, which is no image. Save it as (H, W), (H, W, bands) or (bands, "
            "H, W)."
        )
    return 0 if shape[0] < shape[2] else 2


def read_array_header(content: Path | bytes, name: str) -> ArrayHeader:
    """The head of a file.

    Raises:
        InputError: If it is damaged, or the values are no numbers.
    """
    with _open(content, name) as stream:
        return _header(stream, name)


def read_array(content: Path | bytes, name: str) -> np.ndarray:
    """The array in a file.

    Raises:
        InputError: If it is damaged, or the values are no numbers.
        MemoryError: If there is no room for it.
        DecompressionBombError: Of Pillow, if it has too many pixels.
    """
    with _open(content, name) as stream:
        header = _header(stream, name)
        _, height, width = shape_of(header.shape, name)
        if height * width > 2 * (Image.MAX_IMAGE_PIXELS or height * width):
            raise Image.DecompressionBombError
        needed = int(np.prod([int(side) for side in header.shape], dtype=object)) * header.dtype.itemsize
        start = stream.tell()
        if stream.seek(0, io.SEEK_END) - start < needed:
            raise InputError(f"{name} is a NumPy file that is cut short. Replace the file.")
        if 2 * needed > psutil.virtual_memory().available:
            raise MemoryError
        stream.seek(0)
        array: np.ndarray = np.load(stream, allow_pickle=False)
    return array


@contextmanager
def _open(content: Path | bytes, name: str) -> Iterator[IO[bytes]]:
    with io.BytesIO(content) if isinstance(content, bytes) else open_ordinary(content) as stream:
        try:
            yield stream
        except (ValueError, EOFError, SyntaxError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{name} is a NumPy file that is damaged. Replace the file.") from error


def _header(stream: IO[bytes], name: str) -> ArrayHeader:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    check_numbers(dtype, name)
    return ArrayHeader(tuple(int(side) for side in shape), dtype)


def check_numbers(dtype: np.dtype, name: str) -> None:
    """Refuses what no image is made of.

    Raises:
        InputError: If the values are no real numbers of up to 64 bits.
    """
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise InputError(
            f"{name} holds values of the type {dtype}, which is no image. Save whole numbers or fractions."
        )
