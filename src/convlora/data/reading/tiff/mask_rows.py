"""Masks in TIFF files read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from convlora.data.reading.tiff.header import read_tags
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.data.reading.tiff.rows import check_blocks, reading_rows
from convlora.data.reading.tiff.size import check_size
from convlora.errors import InputError
from convlora.ordinary import ordinary

_BLACK_IS_0, _PALETTE = 1, 3
_BITS = (8, 16)


def has_plain_indices(path: Path) -> bool:
    """Whether a TIFF file holds one channel of whole numbers of 8 or 16 bits, which every library reads alike."""
    layout = TiffLayout.of(read_tags(path))
    if layout is None:
        return False
    is_plain = layout.samples == 1 and layout.photometric in (_BLACK_IS_0, _PALETTE) and layout.depth == 1
    return is_plain and layout.kind == "u" and layout.bits in _BITS


@contextmanager
def open_tiff_mask(path: Path) -> Iterator[TiffMask]:
    """Opens a mask for reading by pieces, see `convlora.data.reading.mask_rows.MaskRows`.

    Raises:
        InputError: If it is damaged.
    """
    with reading_rows(path):
        dataset = rasterio.open(ordinary(path), driver="GTiff")
    with dataset:
        yield TiffMask(dataset, path)


class TiffMask:
    """The indices of an open data set.

    Args:
        dataset: Dataset of rasterio.
        path: Its file.
    """

    def __init__(self, dataset: Any, path: Path) -> None:
        self._dataset, self._path = dataset, path
        self.height, self.width = dataset.height, dataset.width
        layout = TiffLayout.of(read_tags(path))
        if layout is None or (layout.height, layout.width) != (self.height, self.width):
            raise InputError(f"{path} is damaged and cannot be read. Replace the file.")
        check_size(layout, path, str(path))
        check_blocks(dataset, path)

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """See `convlora.data.reading.mask_rows.MaskRows`."""
        window = Window(left, top, (self.width if right is None else right) - left, bottom - top)
        with reading_rows(self._path):
            values: np.ndarray = self._dataset.read(1, window=window)
        return values
