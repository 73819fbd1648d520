"""Bands of TIFF files read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import MaskFlags

from convlora.data.reading.band_files import Stored, with_meaning
from convlora.data.reading.bands import BandReading, check_count, shown_bands, to_eight_bits
from convlora.data.reading.tiff.rows import TiffPieces, reading_rows
from convlora.ordinary import ordinary

_OF_VALUES = {MaskFlags.all_valid, MaskFlags.alpha, MaskFlags.nodata}  # there is no mask beside the channels


@contextmanager
def open_band_rows(path: Path, reading: BandReading) -> Iterator[BandRows]:
    """Opens a TIFF file for reading its bands by rows, see `convlora.data.reading.rows.Rows`.

    Args:
        path: The file.
        reading: Which bands, and how; their ranges must be known.

    Raises:
        InputError: If it is damaged, or has other bands.
    """
    with reading_rows(path):
        dataset = rasterio.open(ordinary(path), driver="GTiff")
    with dataset:
        yield BandRows(TiffPieces(dataset, path), reading)


class BandRows:
    """Rows of the bands of an open data set.

    Args:
        pieces: Pieces of its file.
        reading: As of [`open_band_rows`].
    """

    def __init__(self, pieces: TiffPieces, reading: BandReading) -> None:
        self._pieces, self._reading, layout = pieces, reading, pieces.layout
        check_count(str(pieces.path), layout.samples - (layout.alpha is not None), layout.alpha is not None, reading)
        self.height, self.width, self.reference = pieces.height, pieces.width, pieces.reference
        self.channels = reading.channels
        picked = reading.picked
        wanted = [band for band in range(layout.samples) if band != layout.alpha]
        self._wanted = wanted if picked is None else [number - 1 for number in picked]
        self._read = [*self._wanted]
        self._alpha: int | None = None
        if layout.alpha is not None and layout.alpha not in self._wanted:
            self._alpha = len(self._read)
            self._read.append(layout.alpha)

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> np.ndarray:
        """See `convlora.data.reading.rows.Rows`; `(rows, width, channels)`, 0 without data."""
        stored, bands = self._stored(top, bottom, left, right), list(range(len(self._wanted)))
        pixels = np.empty((*stored.values.shape[1:], len(bands)), np.uint8)
        ranges = self._reading.ranges or ()
        for band in bands:
            pixels[..., band] = to_eight_bits(stored.values[band], ranges[band], stored.missing(band, bands))
        return shown_bands(pixels) if self._reading.is_colour else pixels

    def known(self, top: int, bottom: int) -> np.ndarray | None:
        """See `convlora.data.reading.rows.Rows`: pixels with data in at least one band."""
        return self._stored(top, bottom).known(list(range(len(self._wanted))))

    def sampled(self, step: int) -> Stored:
        """Every so many pixels of the bands that are read, in both directions, as they are stored."""
        return self._meant(*self._pieces.sampled([band + 1 for band in self._read], step))

    def _stored(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> Stored:
        native, mask = self._pieces.native([band + 1 for band in self._read], top, bottom, left, right)
        return self._meant(native, mask)

    def _meant(self, native: np.ndarray, mask: np.ndarray | None) -> Stored:
        values, no_data = with_meaning(native, self._pieces.layout, self._pieces.no_data)
        return Stored(values, self._alpha, no_data, mask, hides=True)
