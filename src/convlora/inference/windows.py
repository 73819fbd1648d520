"""Where the windows of a large image lie, and what each of them has to say at each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from convlora.errors import InputError

OVERLAP = 0.25  # of neighbouring windows, as a share of the window, unless asked otherwise
UNUSED = 0.25  # of an overlap: the outermost pixels of a window, which see too little of what surrounds them

SMALLEST = 16
LARGEST_OVERLAP = 0.9  # with it a pixel is seen a hundred times


@dataclass(frozen=True)
class Tiles:
    """How an image is cut into windows.

    Attributes:
        size: Longer side of a window in pixels of the image, or None for the model's own size.
        overlap: Overlap of neighbours, as a share of the window.
        mirrored: Whether an image that is smaller than a window is continued by its mirror image, so that things keep
            their size, and not resized.

    Raises:
        InputError: If there are no such windows.
    """

    size: int | None = None
    overlap: float = OVERLAP
    mirrored: bool = field(default=False, repr=False)  # a prediction that is resumed knows its tiles by their text

    @classmethod
    def of_run(cls, window: int | None) -> Tiles | None:
        """Those in which a run that was trained on windows is scored and predicts; None if it was not.

        Args:
            window: The setting `data.window`.
        """
        return None if window is None else cls(window, mirrored=True)

    def __post_init__(self) -> None:
        if self.size is not None and self.size < SMALLEST:
            raise InputError(
                f"--tile-size is {self.size}, but a window needs at least {SMALLEST} pixels. Leave it out for windows "
                "of the model's own size."
            )
        if not 0 <= self.overlap <= LARGEST_OVERLAP:
            raise InputError(
                f"--tile-overlap is {self.overlap:g}, but must be from 0 to {LARGEST_OVERLAP}. {OVERLAP} is usual."
            )

    def window(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a window in pixels of the image, of the shape that the model sees.

        Args:
            image_size: (height, width) the model works at.
        """
        if self.size is None:
            return image_size
        longer = max(image_size)
        height, width = (max(1, round(self.size * side / longer)) for side in image_size)
        return height, width


@dataclass(frozen=True)
class Axis:
    """Windows along one side of an image, spread evenly.

    Attributes:
        length: Length of the side, in pixels.
        window: Length of a window. The only window of a shorter side reaches beyond its end.
        starts: First pixel of each window.
    """

    length: int
    window: int
    starts: tuple[int, ...]

    @classmethod
    def over(cls, length: int, window: int, overlap: float) -> Axis:
        """Lays as few windows as cover a side with at least the given overlap.

        Args:
            length: Length of the side, in pixels.
            window: Length of a window, in pixels.
            overlap: Overlap of neighbours, as a share of the window, at least 0 and below 1.
        """
        if length <= window:
            return cls(length, window, (0,))
        step = max(1, int(window * (1 - overlap)))
        gaps = -(-(length - window) // step)
        # Even distances rather than a last window that overlaps its neighbour nearly whole.
        return cls(length, window, tuple((2 * k * (length - window) + gaps) // (2 * gaps) for k in range(gaps + 1)))

    @property
    def stops(self) -> tuple[int, ...]:
        """First pixel behind each window."""
        return tuple(min(start + self.window, self.length) for start in self.starts)

    @property
    def next_starts(self) -> tuple[int, ...]:
        """For each window the first pixel that later windows touch."""
        return (*self.starts[1:], self.length)

    @cached_property
    def weights(self) -> tuple[np.ndarray, ...]:
        """How much each window counts at each of its pixels, float32; at every pixel of the side they sum to 1.

        A window counts fully in its middle and not at all in the outermost quarter of an overlap: what a model says
        there would change if it saw what lies behind the border. Between the two the weight follows a squared sine.
        At the border of the image, where there is no neighbour, windows count fully.
        """
        windows = list(zip(self.starts, self.stops))
        raw = []
        for index, (start, stop) in enumerate(windows):
            weight = np.ones(stop - start)
            inside = np.arange(stop - start) + 0.5
            if index > 0:
                weight *= _ramp(inside, windows[index - 1][1] - start)
            if index < len(windows) - 1:
                weight *= _ramp(inside[::-1], stop - windows[index + 1][0])
            raw.append(weight)
        total = np.zeros(self.length)
        for (start, stop), weight in zip(windows, raw):
            total[start:stop] += weight
        return tuple((weight / total[start:stop]).astype(np.float32) for (start, stop), weight in zip(windows, raw))


def _ramp(distance: np.ndarray, overlap: int) -> np.ndarray:
    """Weight by the distance from the border to a neighbour."""
    if overlap == 0:
        return np.ones_like(distance)
    rise = np.clip((distance - UNUSED * overlap) / ((1 - 2 * UNUSED) * overlap), 0, 1)
    return np.sin(0.5 * np.pi * rise) ** 2


@dataclass(frozen=True)
class Grid:
    """The windows of an image, row by row.

    The weight of a window at a pixel is the product of its weights down and across, so these sum to 1 too.

    Attributes:
        down: The windows along the height.
        across: The windows along the width.
    """

    down: Axis
    across: Axis

    @classmethod
    def over(cls, size: tuple[int, int], window: tuple[int, int], overlap: float, mirrored: bool = False) -> Grid:
        """Lays windows over an image.

        An image that fits into one window is its own window, whatever its shape: it is then treated as without
        windows. Of others, and of all if that is asked for, every window has the full size, so that all is seen at one
        scale.

        Args:
            size: (height, width) of the image.
            window: (height, width) of a window.
            overlap: Overlap of neighbours, as a share of the window.
            mirrored: As of [`Tiles`].
        """
        if not mirrored and size[0] <= window[0] and size[1] <= window[1]:
            window = size
        return cls(Axis.over(size[0], window[0], overlap), Axis.over(size[1], window[1], overlap))

    @property
    def window(self) -> tuple[int, int]:
        """(height, width) of a window."""
        return self.down.window, self.across.window

    def __len__(self) -> int:
        return len(self.down.starts) * len(self.across.starts)

    def rows(self) -> Iterator[tuple[int, int]]:
        """Top and bottom of each row of windows."""
        return zip(self.down.starts, self.down.stops)

    def columns(self) -> Iterator[tuple[int, int]]:
        """Left and right of each column of windows."""
        return zip(self.across.starts, self.across.stops)
