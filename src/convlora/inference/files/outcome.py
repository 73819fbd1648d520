"""What is known of an image once it has been segmented."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convlora.inference.uncertain import Uncertainty


class Outcome(NamedTuple):
    """Of one image.

    Attributes:
        size: (height, width) in pixels.
        counts: Pixels of each class.
        objects: Number of objects, if they were looked for.
        uncertainty: How uncertain it is, if that was asked.
    """

    size: tuple[int, int]
    counts: np.ndarray
    objects: int | None = None
    uncertainty: Uncertainty | None = None
