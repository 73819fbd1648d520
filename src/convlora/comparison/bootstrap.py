"""How sure a difference between two methods is: paired bootstrap over the test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_CHUNK = 500


class Difference(NamedTuple):
    """A difference of scores and its 95% interval."""

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

    Images are drawn with replacement, the same ones for both. The interval says what other images of the same kind
    could have given; what other seeds could have given shows in the spread over the seeds, not here.

    Args:
        method: For each seed the records of the images, in one order for all: the score itself under its name, or with
            several classes the counts `right`, `true` and `predicted` of each class.
        reference: The same of the reference.
        score: `"miou"` for several classes, or the name of a score of single images.
        seed: Of the resampling.
    """
    rng = np.random.default_rng(seed)
    ours, theirs = (_table(records, score) for records in (method, reference))
    images = ours.shape[1]
    everything = np.full((1, images), 1.0)
    mean = float(_scores(ours, everything)[0] - _scores(theirs, everything)[0])
    differences = []
    for start in range(0, RESAMPLES, _CHUNK):
        drawn = rng.multinomial(images, np.full(images, 1 / images), size=min(_CHUNK, RESAMPLES - start)).astype(float)
        differences.append(_scores(ours, drawn) - _scores(theirs, drawn))
    low, high = np.percentile(np.concatenate(differences), [2.5, 97.5])
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
