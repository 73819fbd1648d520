"""Counts of right and wrong pixels of a binary segmentation, and the scores that are ratios of them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PixelCounts(NamedTuple):
    """How many valid pixels fell into each of the four cells; the four add up to the number of valid pixels."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def total(self) -> int:
        """Number of valid pixels."""
        return sum(self)


def above(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Which probabilities are larger than a threshold (not equal), compared in double precision."""
    limit = probabilities.dtype.type(threshold)
    if limit > threshold:  # rounded up: what equals it is larger than the threshold
        limit = np.nextafter(limit, probabilities.dtype.type(-1))
    found: NDArray[np.bool_] = probabilities > limit
    return found


def count_pixels(found: NDArray[np.bool_], true: NDArray[np.bool_], valid: NDArray[np.bool_]) -> PixelCounts:
    """Count the pixels of one image.

    Args:
        found: Which are predicted foreground, of any shape.
        true: Which are foreground.
        valid: Which count.

    Returns:
        The four counts.
    """
    counted = int(np.count_nonzero(valid))
    if counted < valid.size:
        found, true = found & valid, true & valid
    both, predicted, there = (int(np.count_nonzero(one)) for one in (found & true, found, true))
    return PixelCounts(both, predicted - both, counted - predicted - there + both, there - both)


def add_counts(counts: Iterable[PixelCounts]) -> PixelCounts:
    """Sum of the counts of several images, cell by cell."""
    return PixelCounts(*(sum(cell) for cell in zip(*counts)))


def iou(counts: PixelCounts) -> float:
    """Intersection over union of the foreground, 0 to 1; 1 if it is empty in both prediction and truth."""
    union = counts.true_positives + counts.false_positives + counts.false_negatives
    return counts.true_positives / union if union else 1.0


def dice(counts: PixelCounts) -> float:
    """Dice score of the foreground, 0 to 1; 1 if it is empty in both prediction and truth."""
    both = 2 * counts.true_positives + counts.false_positives + counts.false_negatives
    return 2 * counts.true_positives / both if both else 1.0


def precision(counts: PixelCounts) -> float:
    """Share of the predicted foreground that is right, 0 to 1; without any: 1 if there was none to find, else 0."""
    predicted = counts.true_positives + counts.false_positives
    return counts.true_positives / predicted if predicted else float(counts.false_negatives == 0)


def recall(counts: PixelCounts) -> float:
    """Share of the true foreground that was found, 0 to 1; 1 if there is none."""
    true = counts.true_positives + counts.false_negatives
    return counts.true_positives / true if true else 1.0


def accuracy(counts: PixelCounts) -> float:
    """Share of the valid pixels that are right, 0 to 1. There must be one."""
    return (counts.true_positives + counts.true_negatives) / counts.total


def balanced_error_rate(counts: PixelCounts) -> float:
    """1 minus the mean accuracy of the two classes, 0 to 1.

    A class with neither a pixel nor a prediction is left out of the mean; a class that is only predicted counts as
    accuracy 0.

    Source:
        The shadow evaluation of Zhong et al., "Convolution Meets LoRA", ICLR 2024.
    """
    tp, fp, tn, fn = counts
    accuracies = []
    for right, missed, wrongly_predicted in ((tp, fn, fp), (tn, fp, fn)):
        if right + missed:
            accuracies.append(right / (right + missed))
        elif wrongly_predicted:
            accuracies.append(0.0)
    return 1 - sum(accuracies) / len(accuracies)


def nothing_scored(skipped: int) -> str:
    """What to say where there is no score.

    Args:
        skipped: Images with nothing but ignored pixels.
    """
    if not skipped:
        return "No image was scored, because none was given."
    images = "the one image" if skipped == 1 else f"all {skipped} images"
    return f"No image could be scored: every pixel of {images} is ignored. Check the masks and the ignore value."
