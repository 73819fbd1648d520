"""Which bands of an image are read, and what becomes of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from convlora.data.reading.intensities import Intensity
from convlora.errors import InputError

Range = tuple[float, float]


@dataclass(frozen=True)
class BandReading:
    """How the bands of an image become 8-bit values, and those the input of a model.

    Attributes:
        picked: Numbers of the bands that are read, in this order, counted from 1; None: all, which must be `count`.
        count: How many are read.
        ranges: Values of each band that become 0 and 255, in the units of the file; what lies outside is clipped. None:
            not known yet; each image is then stretched by its own range.
        statistics: Mean and standard deviation of each band, as fractions of its range. None: the bands stand for red,
            green and blue, and are normalised as photographs are.
    """

    picked: tuple[int, ...] | None
    count: int
    ranges: tuple[Range, ...] | None = None
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def is_colour(self) -> bool:
        """Whether the bands stand for red, green and blue, or for grey."""
        return self.statistics is None

    @property
    def channels(self) -> int:
        """Channels of the model's input: of bands that stand for grey or colours there are three."""
        return 3 if self.is_colour else self.count


Reading = Intensity | BandReading
"""How a run reads images: as RGB, by the rule for intensities, or band by band."""


def channels_of(reading: Reading) -> int:
    """Channels of what a model is given."""
    return reading.channels if isinstance(reading, BandReading) else 3


def bands_taken(reading: Reading) -> list[int] | None:
    """Numbers of the bands that an image must have, counted from 1; None: it is read as RGB."""
    if not isinstance(reading, BandReading):
        return None
    return list(reading.picked or range(1, reading.count + 1))


@dataclass(frozen=True)
class BandImage:
    """An image of any number of bands.

    Attributes:
        pixels: `(H, W, N)` uint8.
    """

    pixels: np.ndarray

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[1])

    def resized(self, size: tuple[int, int]) -> np.ndarray:
        """Each band at another (height, width), as Pillow resizes photographs; `(N, h, w)` uint8."""
        planes = (Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(self.pixels, -1, 0))
        return np.stack([np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes])

    def picture(self) -> Image.Image:
        """What people are shown: the first three bands as red, green and blue, or the first as grey."""
        return Image.fromarray(shown_bands(self.pixels))


def image_of(pixels: np.ndarray) -> Image.Image | BandImage:
    """`(H, W, N)` uint8 as an image: a photograph where N is 3."""
    pixels = np.ascontiguousarray(pixels)
    return Image.fromarray(pixels) if pixels.shape[-1] == 3 else BandImage(pixels)


def shown_bands(pixels: np.ndarray) -> np.ndarray:
    """`(H, W, 3)` of `(H, W, N)`: the first three bands, or the first one three times."""
    some = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].repeat(3, axis=-1)
    return np.ascontiguousarray(some)


def picture_of(image: Image.Image | BandImage) -> Image.Image:
    """An image that was read, as people are shown it."""
    return image.picture() if isinstance(image, BandImage) else image


def to_eight_bits(values: np.ndarray, full: Range, missing: np.ndarray | None) -> np.ndarray:
    """Values of one band as uint8.

    Args:
        values: `(H, W)`, of any type.
        full: What becomes 0 and 255; values outside are clipped.
        missing: Pixels without data, `(H, W)` bool, which become 0, as do values that are no numbers. None: none.
    """
    low, high = full
    if values.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        scaled = values.copy()
    elif not high > low:  # one value everywhere has no range to stretch
        scaled = np.zeros(values.shape, np.uint8)
    else:
        numbers = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
        scaled = np.rint((numbers.clip(low, high) - low) * (255.0 / (high - low))).astype(np.uint8)
    if missing is not None:
        scaled[missing] = 0
    return scaled


def reading_of(data: Mapping[str, Any], model: Mapping[str, Any]) -> Reading:
    """How a run reads images, by the sections `data` and `model` of its settings.

    Raises:
        ValueError: If they do not belong together.
        TypeError: If they are of another kind.
    """
    picked, count = data.get("bands"), model.get("bands")
    if picked is None and count is None:
        intensity: Intensity = data["intensity"]
        return intensity
    check_choice(picked, count)
    number = int(count or 0) if picked is None else len(picked)
    ranges, mean, std = data.get("band_range"), data.get("band_mean"), data.get("band_std")
    for name, values in (("band_range", ranges), ("band_mean", mean), ("band_std", std)):
        if values is not None and len(values) != number:
            raise ValueError(f"data.{name} is for {len(values)} bands, but {number} are read")
    full = None if ranges is None else tuple((float(low), float(high)) for low, high in ranges)
    if full is not None and any(not low < high for low, high in full):
        raise ValueError("data.band_range must hold pairs whose first value is below the second")
    statistics = None
    if count is not None:
        statistics = _fractions(full, mean, std, number)
    return BandReading(None if picked is None else tuple(map(int, picked)), number, full, statistics)


def check_choice(picked: Sequence[int] | None, count: int | None) -> None:
    """Refuses settings of the bands that contradict each other.

    Raises:
        ValueError: If they do.
    """
    if picked is None:
        return
    if count is None and len(picked) not in (1, 3):
        raise ValueError(
            f"data.bands picks {len(picked)} bands, but the model takes red, green and blue. Pick three (or one, as "
            f"grey), or add model.bands={len(picked)}, which gives the model an input for each"
        )
    if count is not None and len(picked) != count:
        raise ValueError(f"data.bands picks {len(picked)} bands, but model.bands is {count}. Make them agree")


def _fractions(
    ranges: tuple[Range, ...] | None, mean: Sequence[float] | None, std: Sequence[float] | None, number: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each band as fractions of its range; nothing to take out where they are not known yet."""
    if ranges is None or mean is None or std is None:
        return (0.0,) * number, (1.0,) * number
    means = tuple((float(one) - low) / (high - low) for one, (low, high) in zip(mean, ranges, strict=True))
    deviations = tuple(float(one) / (high - low) for one, (low, high) in zip(std, ranges, strict=True))
    if not all(one > 0 for one in deviations):
        raise ValueError("data.band_std must be above 0")
    return means, deviations


def check_count(name: str, there: int, has_alpha: bool, reading: BandReading) -> None:
    """Refuses an image with other bands than a run reads.

    Args:
        name: The image, for the message.
        there: How many bands it has, alpha not counted.
        has_alpha: Whether it has alpha, too.
        reading: What is read.

    Raises:
        InputError: If it has too few, or, where all are read, another number.
    """
    alpha = " and alpha" if has_alpha else ""
    bands = f"1 band{alpha}" if there == 1 else f"{there} bands{alpha}"
    if reading.picked is not None:
        if max(reading.picked) > there + has_alpha:
            raise InputError(
                f"{name} has {bands}, but band {max(reading.picked)} is to be read (data.bands counts from 1). Give an "
                "image with all of these bands, or train with other data.bands."
            )
    elif there != reading.count:
        remedy = "Give images with as many bands, or train with other model.bands."
        if has_alpha and there + 1 == reading.count:
            numbers = ",".join(map(str, range(1, reading.count + 1)))
            remedy = f"If the last one is no alpha but a band, train with --set data.bands=[{numbers}] as well."
        elif there > reading.count:
            remedy = "Train with data.bands to pick some of them, or with other model.bands."
        raise InputError(f"{name} has {bands}, but {reading.count} are to be read (model.bands). {remedy}")
