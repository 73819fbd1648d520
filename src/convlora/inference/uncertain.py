"""How uncertain a model is about an image, from how uncertain it is about each pixel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convlora.inference.bands import MOST

SHARE = 0.1  # of the pixels, the most uncertain ones, whose mean ranks an image


class Uncertainty(NamedTuple):
    """Of one image, from 0 (certain) to 1 (all classes are equally probable); None: no pixel has data.

    Attributes:
        uncertainty: Mean over the most uncertain tenth of its pixels, see [`SHARE`].
        mean_uncertainty: Mean over all its pixels.
    """

    uncertainty: float | None
    mean_uncertainty: float | None


class Levels:
    """Counts the pixels of an image by their uncertainty, whatever the image's size and the order of its rows."""

    def __init__(self) -> None:
        self._counts = np.zeros(MOST + 1, np.int64)

    def add(self, uncertainty: np.ndarray, known: np.ndarray | None = None) -> None:
        """Adds some pixels.

        Args:
            uncertainty: `(h, w)` uint16, as of `convlora.inference.bands.Answer`.
            known: Which of them have data, `(h, w)` bool; None: all.
        """
        kept = uncertainty.ravel() if known is None else uncertainty[known]
        self._counts += np.bincount(kept, minlength=MOST + 1)

    def summary(self) -> Uncertainty:
        """The means of what was added."""
        pixels = int(self._counts.sum())
        if pixels == 0:
            return Uncertainty(None, None)
        return Uncertainty(self._mean_of_most(max(1, round(SHARE * pixels))), self._mean_of_most(pixels))

    def _mean_of_most(self, number: int) -> float:
        """Mean of the largest so many, which is exact: a level's pixels are all alike."""
        falling = self._counts[::-1]
        before = np.cumsum(falling) - falling
        taken = np.clip(number - before, 0, falling)
        return float((taken * np.arange(MOST, -1, -1)).sum() / number / MOST)
