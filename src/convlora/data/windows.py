"""Windows of images at their own resolution, drawn at random for training."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.bands import Reading
from convlora.data.reading.decoded import MOST_BYTES, PIXEL_BYTES, Decoded, pools
from convlora.data.reading.mask_rows import MaskRows, open_mask
from convlora.data.reading.rows import is_read_by_rows, open_rows, size_in_rows
from convlora.data.sample import Sample, size_mismatch_message
from convlora.errors import InputError

FOREGROUND_SHARE = 1 / 3
"""Of the windows, that are laid around a pixel of the foreground.

Source: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation"
(Nature Methods 2021): a third of its patches are certain to hold foreground, so that rare classes are seen.
"""

_MOST_PLACES = 1024  # pixels kept for each class of a mask
_MOST_MASKS = 4096  # masks whose pixels are kept
_DRAWS = 4  # of a window, until one has a pixel that counts
_FEWEST = 4  # images that windows are mixed of
_BAND = 1 << 22  # pixels of a mask that are looked at together

Places = tuple[np.ndarray, ...]
"""Rows and columns of some pixels of each class of the foreground that a mask has: `(n, 2)` int32 for each class."""


@dataclass(frozen=True)
class Windows:
    """How many windows each image of an epoch gives: as many as tile it, and at least one.

    Attributes:
        size: (height, width) of a window in pixels of the images.
        counts: Counts for each image.
        decoded: Bytes that each image takes that is decoded whole, 0 for those that are read by windows; empty: of all.
    """

    size: tuple[int, int]
    counts: tuple[int, ...]
    decoded: tuple[int, ...] = ()

    @classmethod
    def over(cls, samples: Sequence[Sample], size: tuple[int, int], reading: Reading = "type") -> Windows:
        """Counts the windows of images by what their headers say.

        Args:
            samples: The images.
            size: (height, width) of a window.
            reading: How the images are read.

        Raises:
            InputError: If a header cannot be read.
        """
        sizes = [size_in_rows(sample.image, reading) for sample in samples]
        decoded = tuple(
            0 if isinstance(sample.image, Path) and is_read_by_rows(sample.image) else PIXEL_BYTES * height * width
            for sample, (height, width) in zip(samples, sizes, strict=True)
        )
        return cls(size, tuple(number_of_windows(one, size) for one in sizes), decoded)

    def __len__(self) -> int:
        return self._ends[-1] if self.counts else 0

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.counts))

    def order(self, rng: np.random.Generator, most: int = MOST_BYTES) -> np.ndarray:
        """The windows of an epoch in a random order.

        Where not all images can be kept decoded, windows of some images come first, in a random order among
        themselves, then those of some others, so that an image is not decoded for each window again.

        Args:
            rng: Decides the order.
            most: Bytes that can be kept decoded.
        """
        windows = rng.permutation(len(self))
        fits, mixes = sum(self.decoded) <= most, _FEWEST * max(self.decoded, default=0) <= most
        if fits or not mixes or len(self) < 2 * len(self.counts):
            return windows
        images = rng.permutation(len(self.counts))
        pool_of = np.empty(len(images), int)
        pool_of[images] = pools(np.array(self.decoded)[images], most)
        return windows[np.argsort(np.repeat(pool_of, self.counts)[windows], kind="stable")]

    def image_of(self, index: int) -> int:
        """Which image a window of an epoch is cut from."""
        return bisect_right(self._ends, index)


def number_of_windows(size: tuple[int, int], window: tuple[int, int]) -> int:
    """As many windows as cover an image without overlap; both are (height, width)."""
    return -(-size[0] // window[0]) * -(-size[1] // window[1])


class WindowReader:
    """Cuts windows out of images with their labels.

    TIFF files are read window by window if rasterio is installed. Others are decoded whole, and kept for a while.

    Args:
        classes: What the values in the masks mean.
        size: (height, width) of a window in pixels of the images.
        intensity: How values become 8 bits, see `convlora.data.reading.images.read_image`, or which bands are read.
    """

    def __init__(self, classes: ClassTable, size: tuple[int, int], intensity: Reading = "type") -> None:
        self.classes, self.size, self.intensity = classes, size, intensity
        self._places: dict[int, Places] = {}  # by the number of the sample
        self._decoded = Decoded()

    def read(self, sample: Sample, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws a window and reads it.

        Args:
            sample: The image and its mask.
            number: By which the sample is known again.
            rng: Decides where the window lies; nothing else does.

        Returns:
            `(h, w, C)` uint8, and class indices `(h, w)`, both of the window's size. An image that is smaller is
            continued by its mirror image to the right and downwards, as `convlora predict --tile` does.

        Raises:
            InputError: A file cannot be read, the sizes differ, or the mask holds values that are no class.
        """
        assert sample.mask is not None  # noqa: S101 - of training images
        with self._decoded.opened(("mask", number), open_mask(sample.mask)) as mask:
            size = (mask.height, mask.width)
            if number not in self._places:
                if len(self._places) >= _MOST_MASKS:
                    self._places.clear()
                self._places[number] = foreground_places(mask, self.classes, sample.mask)
            for _ in range(_DRAWS):
                top, left = draw_window(size, self.size, self._places[number], rng)
                bottom, right = min(top + self.size[0], size[0]), min(left + self.size[1], size[1])
                labels = self.classes.encode(mask.read(top, bottom, left, right), sample.mask)
                if (labels != self.classes.ignore_index).any():
                    break
        with self._decoded.opened(("image", number), open_rows(sample.image, self.intensity)) as image:
            if (image.height, image.width) != size:
                raise InputError(size_mismatch_message(sample, (image.height, image.width), size))
            pixels = np.array(image.read(top, bottom, left, right))  # not a view of what is kept
        return mirrored(pixels, self.size), mirrored(np.array(labels), self.size)


def draw_window(
    size: tuple[int, int], window: tuple[int, int], places: Places, rng: np.random.Generator
) -> tuple[int, int]:
    """Draws the first row and column of a window.

    A share of [`FOREGROUND_SHARE`] lies around a pixel of the foreground, of a class that is drawn first; the others
    lie anywhere in the image.

    Args:
        size: (height, width) of the image.
        window: (height, width) of the window.
        places: Places of the foreground, see [`foreground_places`].
        rng: Draws.
    """
    last = [max(0, whole - part) for whole, part in zip(size, window)]
    if rng.random() < FOREGROUND_SHARE and places:
        of_class = places[rng.integers(len(places))]
        middle = of_class[rng.integers(len(of_class))]
        first = [min(max(0, int(at) - part // 2), most) for at, part, most in zip(middle, window, last)]
    else:
        first = [int(rng.integers(most + 1)) for most in last]
    return first[0], first[1]


def foreground_places(mask: MaskRows, classes: ClassTable, name: object) -> Places:
    """Finds pixels of each class of the foreground, all equally likely; the same whenever it is asked.

    Args:
        mask: The mask, which is read once, some rows at a time.
        classes: What its values mean. With several classes and no background, each counts.
        name: Name of the mask, for messages.

    Raises:
        InputError: It cannot be read, or holds values that are no class.
    """
    background = 0 if classes.num_classes == 2 else classes.background
    rng, found = np.random.default_rng(0), dict[int, tuple[np.ndarray, np.ndarray]]()
    for top, bottom in _bands(mask):
        labels = classes.encode(mask.read(top, bottom), name)
        kinds = set(np.unique(labels).tolist()) - {background, classes.ignore_index}
        for kind in sorted(kinds):
            rows, columns = np.nonzero(labels == kind)
            keys, places = rng.random(len(rows)), np.stack([rows + top, columns], axis=1).astype(np.int32)
            if kind in found:
                before = found[kind]
                keys, places = np.concatenate([before[0], keys]), np.concatenate([before[1], places])
            if len(keys) > _MOST_PLACES:  # those with the smallest keys are a sample of all
                kept = np.argpartition(keys, _MOST_PLACES)[:_MOST_PLACES]
                keys, places = keys[kept], places[kept]
            found[kind] = keys, places
    return tuple(places for _, (_, places) in sorted(found.items()))


def _bands(mask: MaskRows) -> Iterator[tuple[int, int]]:
    step = max(1, _BAND // mask.width)
    return ((top, min(top + step, mask.height)) for top in range(0, mask.height, step))


def mirrored(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Continues a part of an image, `(H, W, ...)`, by its mirror image to a (height, width)."""
    if pixels.shape[:2] == size:
        return pixels
    missing = [(0, whole - part) for whole, part in zip(size, pixels.shape)]
    return np.pad(pixels, [*missing, *[(0, 0)] * (pixels.ndim - 2)], mode="symmetric")
