"""Masks that are read in parts, piece by piece where the file format allows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from convlora.data.reading.images import read_mask
from convlora.data.reading.rows import is_read_by_rows
from convlora.data.reading.stored import ImageSource


class MaskRows(Protocol):
    """A mask that is read in parts.

    Attributes:
        height: In pixels.
        width: In pixels.
    """

    height: int
    width: int

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """The values in some rows, and of them in columns `left` to `right`, as `images.read_mask` reads them."""


class WholeMask:
    """A mask that has been decoded already.

    Args:
        values: `(H, W)` integers.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.height, self.width = values.shape

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """See [`MaskRows`]."""
        return self._values[top:bottom, left:right]

    def packed(self) -> WholeMask:
        """The same in as few bytes as its values need."""
        least, most = int(self._values.min(initial=0)), int(self._values.max(initial=0))
        return WholeMask(self._values.astype(np.result_type(np.min_scalar_type(least), np.min_scalar_type(most))))

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self._values.nbytes


@contextmanager
def open_mask(source: ImageSource) -> Iterator[MaskRows]:
    """Opens a mask.

    TIFF files of one channel with 8 or 16 bits are read piece by piece if rasterio is installed, everything else is
    decoded whole first.

    Args:
        source: The mask.

    Raises:
        InputError: If it cannot be read, or is too large to be decoded whole.
    """
    if isinstance(source, Path) and is_read_by_rows(source):
        from convlora.data.reading.tiff.mask_rows import has_plain_indices, open_tiff_mask

        if has_plain_indices(source):
            with open_tiff_mask(source) as mask:
                yield mask
            return
    yield WholeMask(read_mask(source))
