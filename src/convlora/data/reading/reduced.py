"""Reduced pictures of images that are too large to show."""

from __future__ import annotations

import numpy as np
from PIL import Image

from convlora.data.reading.bands import shown_bands
from convlora.data.reading.rows import Rows

LONGEST = 4096  # side of a picture in pixels
_PIECE = 1 << 24  # pixels of the image held at a time


class ReducedMap:
    """Every n-th pixel of every n-th row of a semantic map that comes in bands.

    Args:
        size: (height, width) of the map.
        fill: What a pixel is before it is known.

    Attributes:
        factor: By how much the map is reduced, a whole number.
        pixels: The small map, uint16; without a class the pixels are `fill`.
    """

    def __init__(self, size: tuple[int, int], fill: int) -> None:
        self.factor = -(-max(size) // LONGEST)
        self._rows, self._columns = (_middles(side, self.factor) for side in size)
        self._fill = fill
        self.pixels = np.full((len(self._rows), len(self._columns)), fill, np.uint16)

    def add(self, rows: slice, semantic_map: np.ndarray, known: np.ndarray | None) -> None:
        """Takes what it needs from a band.

        Args:
            rows: Where the band lies.
            semantic_map: `(rows, width)` of classes.
            known: Which of them count, bool; None: all.
        """
        first, last = np.searchsorted(self._rows, (rows.start, rows.stop))
        places = np.ix_(self._rows[first:last] - rows.start, self._columns)
        taken = semantic_map[places]
        self.pixels[first:last] = taken if known is None else np.where(known[places], taken, self._fill)


def _middles(side: int, factor: int) -> np.ndarray:
    return np.minimum(np.arange(-(-side // factor)) * factor + factor // 2, side - 1)


def reduced_image(source: Rows, factor: int) -> Image.Image:
    """The image with each square of `factor` by `factor` pixels averaged to one."""
    picture = Image.new("RGB", (-(-source.width // factor), -(-source.height // factor)))
    step = max(1, _PIECE // (source.width * factor)) * factor
    for top in range(0, source.height, step):
        band = Image.fromarray(shown_bands(source.read(top, min(top + step, source.height))))
        picture.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return picture
