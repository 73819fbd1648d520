"""What is known of the objects in a semantic map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convlora.measuring.spans import Spans, drawn, of_owner


@dataclass(frozen=True, eq=False)
class Objects:
    """Connected objects in the order of their first pixels, row by row from the top.

    Attributes:
        size: (height, width) of the map.
        classes: Class of each, `(n,)`.
        pixels: Number of pixels, `(n,)`.
        centres: Mean row and column of their pixels, `(n, 2)`; (0, 0) is the middle of the first pixel.
        boxes: Top, left, bottom and right, the last two behind the last row and column, `(n, 4)`.
        steps: Steps of the border: to the side, up or down, and along a diagonal, `(n, 3)`, in pixels.
        probabilities: Mean probability of its class in an object, `(n,)`; None if it is not known.
        spans: Their pixels, if they were kept.
    """

    size: tuple[int, int]
    classes: np.ndarray
    pixels: np.ndarray
    centres: np.ndarray
    boxes: np.ndarray
    steps: np.ndarray
    probabilities: np.ndarray | None
    spans: Spans | None = None

    def __len__(self) -> int:
        return len(self.classes)

    def perimeters(self, sides: np.ndarray | None = None) -> np.ndarray:
        """Lengths of the borders, `(n,)`, as of `skimage.measure.perimeter`.

        Args:
            sides: What one pixel to the right and one pixel down are in units, `(n, 2, 2)`: x and y of the first, x and
                y of the second. Default: pixels.
        """
        if sides is None:
            return self.steps @ np.array([1, 1, np.sqrt(2)])
        right, down = sides[:, 0], sides[:, 1]
        diagonal = (np.linalg.norm(right + down, axis=1) + np.linalg.norm(right - down, axis=1)) / 2
        lengths = np.stack([np.linalg.norm(right, axis=1), np.linalg.norm(down, axis=1), diagonal], axis=1)
        return (self.steps * lengths).sum(axis=1)

    def areas(self, sides: np.ndarray) -> np.ndarray:
        """Areas in units, `(n,)`.

        Args:
            sides: As of [`Objects.perimeters`].
        """
        return self.pixels * np.abs(np.linalg.det(sides))


def object_mask(objects: Objects, index: int) -> np.ndarray:
    """The mask of one object inside its box, `(h, w)` uint8 of 0 and 1.

    Args:
        objects: With their spans.
        index: Which, from 0.

    Raises:
        ValueError: If their spans were not kept.
    """
    if objects.spans is None:
        raise ValueError("the pixels of these objects were not kept")
    top, left, bottom, right = objects.boxes[index].tolist()
    spans = of_owner(objects.spans, index)
    return drawn(spans, (top, left, bottom, right), np.ones(len(spans.owners), np.int8))
