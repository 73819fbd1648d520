"""Ranges and statistics of bands, from the images that a run trains on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convlora.data.dataset import SampleInputError
from convlora.data.reading.band_files import EIGHT_BITS, name_of, read_stored
from convlora.data.reading.bands import BandReading, Range, Reading, check_count, reading_of
from convlora.data.reading.rows import is_huge
from convlora.data.sample import Sample
from convlora.errors import InputError
from convlora.training.config import RunConfig

MOST_IMAGES = 500  # evenly spread over the training images
_MOST_PIXELS, _FEWEST_PIXELS = 1 << 16, 1 << 8  # of an image, on an even grid
_MOST_VALUES = 1 << 26  # of all bands, held at a time
LOW, HIGH = 0.1, 99.9  # percent of the values that become black and white


class BandFacts(NamedTuple):
    """What was found out of the bands that are read, in the units of the files.

    Attributes:
        ranges: Values of each band that become 0 and 255.
        mean: Mean of each band, after its values were clipped to its range.
        std: Likewise.
    """

    ranges: list[Range]
    mean: list[float]
    std: list[float]


def config_reading(config: RunConfig) -> Reading:
    """How a run reads images.

    Raises:
        InputError: If its settings contradict each other.
    """
    try:
        return reading_of(vars(config.data), vars(config.model))
    except ValueError as error:
        raise InputError(f"{error}.") from error


def settle_bands(config: RunConfig, samples: Sequence[Sample], tell: Callable[[str], None]) -> None:
    """Fills in the ranges and statistics of the bands that are read, as far as they were left open.

    Args:
        config: Settings of the run; changed in place.
        samples: The training images.
        tell: Receives a sentence about it.

    Raises:
        InputError: If an image cannot be read or has other bands, or a band has one value everywhere.
    """
    reading, data = config_reading(config), config.data
    wanted = ["band_range"] if config.model.bands is None else ["band_range", "band_mean", "band_std"]
    if not isinstance(reading, BandReading) or all(getattr(data, name) is not None for name in wanted):
        return
    facts = measure_bands(samples, reading)
    found = {"band_range": [list(one) for one in facts.ranges], "band_mean": facts.mean, "band_std": facts.std}
    for name in wanted:
        if getattr(data, name) is None:
            setattr(data, name, found[name])
            config.settled.add(f"data.{name}")
    count = min(len(samples), MOST_IMAGES)
    bands = "1 band" if reading.count == 1 else f"{reading.count} bands"
    tell(
        f"Ranges of {bands} taken from {count} training image{'s' if count > 1 else ''}; they are kept in config.yaml."
    )


def measure_bands(samples: Sequence[Sample], reading: BandReading) -> BandFacts:
    """Measures the bands that are read of training images.

    Of each image pixels on an even grid are taken, all of a small one, and none that hold no data.

    Args:
        samples: The images.
        reading: Which bands are read; ranges that are known stay.

    Raises:
        InputError: If an image cannot be read or has other bands, or a band has one value everywhere.
    """
    chosen = [samples[place] for place in _spread(len(samples))]
    room = _MOST_VALUES // (max(1, len(chosen)) * reading.count)
    most = min(_MOST_PIXELS, max(_FEWEST_PIXELS, room))
    found: list[list[np.ndarray]] = [[] for _ in range(reading.count)]
    for sample in chosen:
        try:
            for values, own in zip(found, _values(sample, reading, most), strict=True):
                values.append(own)
        except InputError as error:
            raise SampleInputError(str(error)) from error
    facts = BandFacts([], [], [])
    for place, parts in enumerate(found):
        number = place + 1 if reading.picked is None else reading.picked[place]
        values = np.concatenate(parts)
        full = _range(values) if reading.ranges is None else reading.ranges[place]
        clipped = values.astype(np.float64).clip(*full)
        if not values.size or clipped.min() == clipped.max():
            raise InputError(
                f"Band {number} of the training images has one value everywhere, so that nothing is to be learned "
                "from it. Leave it out: data.bands picks the others."
            )
        facts.ranges.append(full)
        facts.mean.append(_short(clipped.mean()))
        facts.std.append(_short(clipped.std()))
    return facts


def _spread(count: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(count, MOST_IMAGES)).round().astype(int).tolist()))


def _values(sample: Sample, reading: BandReading, most: int) -> list[np.ndarray]:
    """Values of each band of an image that hold data."""
    if isinstance(sample.image, Path) and is_huge(sample.image):
        return _values_of_huge(sample.image, reading, most)
    stored = read_stored(sample.image)
    has_alpha = stored.alpha is not None
    check_count(name_of(sample.image), len(stored.values) - has_alpha, has_alpha, reading)
    bands = stored.chosen(reading)
    height, width = stored.values.shape[1:]
    step = max(1, math.ceil(math.sqrt(height * width / most)))
    grid = (slice(step // 2, None, step), slice(step // 2, None, step))
    taken = []
    for band in bands:
        missing, values = stored.missing(band, bands), stored.values[band][grid]
        taken.append(values.ravel() if missing is None else values[~missing[grid]])
    return taken


def _values_of_huge(path: Path, reading: BandReading, most: int) -> list[np.ndarray]:
    """The same of a TIFF file that is too large to be decoded whole."""
    from convlora.data.reading.tiff.band_rows import open_band_rows

    with open_band_rows(path, reading) as rows:
        stored = rows.sampled(max(1, math.ceil(math.sqrt(rows.height * rows.width / most))))
    bands = list(range(reading.count))
    taken = []
    for band in bands:
        missing, values = stored.missing(band, bands), stored.values[band]
        taken.append(values.ravel() if missing is None else values[~missing])
    return taken


def _range(values: np.ndarray) -> Range:
    """What becomes black and white: bytes as they are, else all but the outermost values."""
    if values.dtype == np.uint8:
        return EIGHT_BITS
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values.astype(np.float64), [LOW, HIGH]).tolist()
    if low == high:  # nearly all pixels are alike; the others are what counts
        low, high = float(values.min()), float(values.max())
    return _short(low), _short(high)


def _short(number: float) -> float:
    """A number as people read it in a file."""
    return float(f"{number:.7g}")
