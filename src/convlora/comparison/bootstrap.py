"""How sure a score is, and a difference between two methods: bootstrap over the images, or what they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convlora.data.sources.belonging import connected

RESAMPLES = 10_000
_ALIKE = ("volume", "group")  # keys of records whose equal values mark images that are alike
_CHUNK = 500


class Difference(NamedTuple):
    """A difference of scores, or a score, and its 95% interval."""

    mean: float
    low: float
    high: float


def paired_difference(
    method: Sequence[Sequence[dict[str, Any]]],
    reference: Sequence[Sequence[dict[str, Any]]],
    score: str,
    seed: int = 0,
) -> Difference:
    """Score of a method minus that of a reference, on the same images.

    Images are drawn with replacement, the same ones for both; the images of a volume or a group are drawn together. The
    interval says what other images of the same kind could have given; what other seeds could have given shows in the
    spread over the seeds, not here.

    Args:
        method: For each seed the records of the images, in one order for all: the score itself under its name, or with
            several classes the counts `right`, `true` and `predicted` of each class.
        reference: The same of the reference.
        score: `"miou"` for several classes, or the name of a score of single images.
        seed: Seed of the resampling.
    """
    ours, theirs = (_table(records, score) for records in (method, reference))
    places = np.array(units_of(method[0], reference[0]), dtype=np.intp)
    return _interval(lambda weights: _scores(ours, weights) - _scores(theirs, weights), places, seed)


def units_of(*runs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers images so that those of a volume, or of a group of `groups.csv`, have the same number.

    Images that are alike say less about others than as many independent ones.

    Args:
        runs: Records of the same images by one run or several: runs of older versions do not name groups.
    """
    return connected(
        [[(key, one[key]) for one in records for key in _ALIKE if key in one] for records in zip(*runs, strict=True)]
    )


def score_interval(
    records: Sequence[dict[str, Any]], score: str, units: Sequence[int] | None = None, seed: int = 0
) -> Difference:
    """A score and its 95% interval: what other images of the same kind could have given.

    Args:
        records: Records of the images, as for [`paired_difference`].
        score: As of [`paired_difference`].
        units: The number of the group of each image. Groups are drawn, not images: those of one group are alike, and
            say less about others than as many independent ones. None: each image is its own group.
        seed: Seed of the resampling.
    """
    table = _table([records], score)
    places = np.arange(len(records)) if units is None else np.unique(np.asarray(units), return_inverse=True)[1]
    return _interval(lambda weights: _scores(table, weights), places, seed)


def _interval(
    value: Callable[[NDArray[np.float64]], NDArray[np.float64]], places: NDArray[np.intp], seed: int
) -> Difference:
    """The value of all images, and where it lies when units are drawn with replacement.

    Args:
        value: Gives the value for rows of image weights `(R, I)`.
        places: The unit of each image.
        seed: Seed of the resampling.
    """
    rng, units = np.random.default_rng(seed), int(places.max()) + 1
    mean = float(value(np.ones((1, len(places))))[0])
    values = []
    for start in range(0, RESAMPLES, _CHUNK):
        drawn = rng.multinomial(units, np.full(units, 1 / units), size=min(_CHUNK, RESAMPLES - start)).astype(float)
        values.append(value(drawn[:, places]))
    low, high = np.percentile(np.concatenate(values), [2.5, 97.5])
    return Difference(mean, float(low), float(high))


def _table(records: Sequence[Sequence[dict[str, Any]]], score: str) -> NDArray[np.float64]:
    """Seeds x images, or seeds x images x 3 x classes."""
    if score == "miou":
        return np.array(
            [[[one["right"], one["true"], one["predicted"]] for one in run] for run in records], dtype=np.float64
        )
    return np.array([[one[score] for one in run] for run in records], dtype=np.float64)


def _scores(table: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean score over the seeds for each row of image weights `(R, I)`."""
    if table.ndim == 2:
        means: NDArray[np.float64] = weights @ table.mean(axis=0) / weights.sum(axis=1)
        return means
    seeds, images = table.shape[:2]
    sums = (weights @ table.transpose(1, 0, 2, 3).reshape(images, -1)).reshape(len(weights), seeds, *table.shape[2:])
    right, true, predicted = sums[:, :, 0], sums[:, :, 1], sums[:, :, 2]
    either = true + predicted - right
    with np.errstate(invalid="ignore"):
        per_class = np.where(either > 0, right / np.where(either > 0, either, 1), np.nan)
    over_classes: NDArray[np.float64] = np.nanmean(per_class, axis=-1).mean(axis=-1)
    return over_classes
