"""Probabilities as 16-bit TIFF files."""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import tifffile

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.geo import GeoReference
from convlora.inference.bands import FULL
from convlora.storage import SOFTWARE, replacing_file

NO_DATA = FULL + 1
_STRIP = 64  # rows that are compressed at a time
_GDAL_NO_DATA = 42113  # the tag


class ProbabilityWriter(Protocol):
    """A file that is being written, from top to bottom."""

    def write(self, rows: np.ndarray) -> None:
        """Adds rows, `(channels, rows, width)` uint16."""


def channel_names(classes: ClassTable, is_binary: bool) -> list[str]:
    """Names of the classes whose probabilities are written: of a binary task the foreground alone."""
    return [classes.names[1]] if is_binary else list(classes.names)


@contextmanager
def open_probabilities(
    path: Path, size: tuple[int, int], names: Sequence[str], reference: GeoReference | None
) -> Iterator[ProbabilityWriter]:
    """Opens a TIFF file of probabilities, with a page for each class; a band if it is a GeoTIFF.

    Values from 0 to `FULL` stand for probabilities from 0 to 1, `NO_DATA` for pixels without data; the file says so. It
    has its name only once it is whole.

    Args:
        path: Where it goes.
        size: (height, width) in pixels.
        names: Names of the classes that have a page.
        reference: Where on earth the image lies; with one it is a GeoTIFF, which needs rasterio.
    """
    about = {
        "software": SOFTWARE,
        "classes": list(names),
        "probability": f"value / {FULL}",
        "no_data": NO_DATA,
    }
    description = json.dumps(about)
    with replacing_file(path) as temporary:
        if reference is not None:
            from convlora.inference.files.geo_tiff import open_probability_geo_tiff

            with open_probability_geo_tiff(
                temporary, path, size, names, reference, NO_DATA, FULL, description
            ) as geo_tiff:
                yield geo_tiff
        else:
            with tempfile.TemporaryFile(dir=path.parent) as store:
                pages = Pages(store, size, len(names))
                yield pages
                pages.finish(temporary, description)


class Pages:
    """A TIFF file with several pages whose rows come together.

    A page has to be whole before the next one begins, so compressed rows wait in a store of their own.
    """

    def __init__(self, store: IO[bytes], size: tuple[int, int], channels: int) -> None:
        self._store, self._size = store, size
        self._strips: list[list[tuple[int, int]]] = [[] for _ in range(channels)]  # begin and length of each
        self._waiting = np.empty((channels, 0, size[1]), np.uint16)

    def write(self, rows: np.ndarray) -> None:
        """See [`ProbabilityWriter`]."""
        self._waiting = np.concatenate([self._waiting, rows], axis=1)
        while self._waiting.shape[1] >= _STRIP:
            self._put(_STRIP)

    def finish(self, path: Path, description: str) -> None:
        """Writes the file."""
        if self._waiting.shape[1]:
            self._put(self._waiting.shape[1])
        height, width = self._size
        with tifffile.TiffWriter(path, byteorder="<", bigtiff=self._store.tell() > 3 << 30) as file:
            file.write(
                self._encoded(),
                shape=(len(self._strips), height, width),
                dtype=np.uint16,
                compression="zlib",
                rowsperstrip=min(_STRIP, height),
                photometric="minisblack",
                description=description,
                metadata=None,
                software=SOFTWARE,
                extratags=[(_GDAL_NO_DATA, "s", 0, str(NO_DATA), False)],
            )

    def _put(self, number: int) -> None:
        for strips, page in zip(self._strips, self._waiting[:, :number]):
            content = zlib.compress(page.astype("<u2").tobytes(), 6)
            strips.append((self._store.tell(), len(content)))
            self._store.write(content)
        self._waiting = self._waiting[:, number:]

    def _encoded(self) -> Iterator[bytes]:
        for strips in self._strips:
            for begin, length in strips:
                self._store.seek(begin)
                yield self._store.read(length)
