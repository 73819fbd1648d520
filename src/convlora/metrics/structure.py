"""Scores of the probability map itself, without a threshold: MAE, S-measure, E-measure and weighted F-measure.

The measures are those of the package `pysodmetrics`, to the last digit, computed in pieces that stay in the processor's
cache, which takes a fraction of the time for large images.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from convlora.cores import usable_cores
from convlora.metrics.sums import PairwiseSum, pieces
from convlora.metrics.weighted_f import EPS, weighted_f_measures

PUBLISHED_BETA_SQUARED = 0.3  # of the weighted F-measure as published for Conv-LoRA; the usual choice is 1
_LARGE = 1 << 20  # pixels from which a thread is worth its while
_LEVELS = 256  # thresholds of the E-measure


def structure_scores(
    probabilities: NDArray[np.floating], foreground: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> dict[str, float]:
    """Score one image's probability map.

    The probabilities are first stretched so that the smallest of the valid pixels becomes 0 and the largest 1, as in
    the published evaluation (a constant map is left as it is). Ignored pixels are left out of the MAE; the other
    measures need a full rectangle, and see background there in prediction and truth alike.

    Args:
        probabilities: `(H, W)`, values in [0, 1].
        foreground: `(H, W)`, the truth.
        valid: `(H, W)`, the pixels to score; at least one, in an image of at least two pixels.

    Returns:
        `mae`, `s_measure`, `e_measure` (mean over 256 thresholds), `weighted_f` (squared beta 0.3) and
        `weighted_f_beta1`. All finite: the S-measure is 0, as published, where `pysodmetrics` finds none because the
        centroid of the foreground lies in the last row or column and leaves a quadrant empty.

    Source:
        S-measure: Fan et al., ICCV 2017. E-measure: Fan et al., IJCAI 2018. Weighted F-measure: Margolin et al., CVPR
        2014. Choice of variants: the evaluation of Zhong et al., "Convolution Meets LoRA", ICLR 2024.
    """
    stretched = stretch(probabilities, valid)
    truth = foreground & valid
    betas = (PUBLISHED_BETA_SQUARED, 1.0)
    # Of a large image the slowest measure is computed beside the others: they leave Python's lock free.
    is_shared = truth.size >= _LARGE and usable_cores() > 1
    with ThreadPoolExecutor(1) if is_shared else nullcontext() as pool:
        beside = None if pool is None else pool.submit(weighted_f_measures, stretched, truth, betas)
        scores = {
            "mae": _mean_error(stretched, truth, valid),
            "s_measure": s_measure(stretched, truth),
            "e_measure": float(np.mean(e_measures(stretched, truth))),
        }
        weighted = weighted_f_measures(stretched, truth, betas) if beside is None else beside.result()
    return {**scores, "weighted_f": weighted[0], "weighted_f_beta1": weighted[1]}


def stretch(probabilities: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Map the valid probabilities linearly onto [0, 1] (unless they are all equal) and set the ignored ones to 0.

    Args:
        probabilities: `(H, W)`.
        valid: `(H, W)`, at least one pixel.

    Returns:
        `(H, W)` float64, values in [0, 1].
    """
    is_whole = bool(valid.all())
    seen = probabilities if is_whole else probabilities[valid]
    low, high = float(seen.min()), float(seen.max())
    stretched = np.empty(probabilities.shape)
    for rows in pieces(stretched.shape):
        piece = stretched[rows]
        piece[...] = probabilities[rows]
        if high > low:
            piece -= low
            piece /= high - low
        if not is_whole:
            piece[~valid[rows]] = 0
    return stretched


def _mean_error(stretched: NDArray[np.float64], truth: NDArray[np.bool_], valid: NDArray[np.bool_]) -> float:
    """Mean absolute error of the valid pixels."""
    number = int(np.count_nonzero(valid))
    total = PairwiseSum(number)
    for rows in pieces(truth.shape):
        errors = np.abs(stretched[rows] - truth[rows])
        total.add(errors if number == truth.size else errors[valid[rows]])
    return total.total() / number


def s_measure(prediction: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """How alike the structure of a map and of the truth is: the mean of a score of objects and one of regions.

    Args:
        prediction: `(H, W)`, values in [0, 1].
        truth: `(H, W)`.
    """
    number = int(np.count_nonzero(truth))
    if number == 0:
        return float(1 - np.mean(prediction))
    if number == truth.size:
        return float(np.mean(prediction))
    share = number / truth.size
    objects = _object_score(prediction[truth]) * share + _object_score(1 - prediction[~truth]) * (1 - share)
    height, width = truth.shape
    counts = [np.count_nonzero(truth, axis=axis) for axis in (1, 0)]
    # One more than the centroid, as MATLAB counts.
    y, x = (int(np.round(np.dot(np.arange(len(one)), one) / number)) + 1 for one in counts)
    if y == height or x == width:
        return 0.0
    area = height * width
    weights = [x * y / area, y * (width - x) / area, (height - y) * x / area]
    parts = [
        (slice(0, y), slice(0, x)), (slice(0, y), slice(x, width)),
        (slice(y, height), slice(0, x)), (slice(y, height), slice(x, width)),
    ]  # fmt: skip
    first, second, third, fourth = (_similarity(prediction[part], truth[part]) for part in parts)
    last = 1 - weights[0] - weights[1] - weights[2]
    regions = first * weights[0] + second * weights[1] + third * weights[2] + fourth * last
    return max(0.0, objects * 0.5 + regions * 0.5)


def _object_score(values: NDArray[np.float64]) -> float:
    """From the values on one side of the truth, which are overwritten: near 1 if all are near 1."""
    mean, deviation = float(np.mean(values)), 0.0
    if values.size > 1:
        values -= mean
        values *= values
        deviation = float(np.sqrt(np.sum(values) / (values.size - 1)))
    return float(2 * mean / (mean * mean + 1 + deviation + EPS))


def _similarity(prediction: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Structural similarity of a quadrant."""
    size = truth.size
    x, y = float(np.mean(prediction)), np.count_nonzero(truth) / size
    of_prediction, of_truth, of_both = PairwiseSum(size), PairwiseSum(size), PairwiseSum(size)
    for rows in pieces(truth.shape):
        difference, step = prediction[rows] - x, truth[rows] - y
        of_both.add(difference * step)
        of_prediction.add(np.square(difference, out=difference))
        of_truth.add(np.square(step, out=step))
    variance_x, variance_y, covariance = (one.total() / (size - 1 + EPS) for one in (of_prediction, of_truth, of_both))
    alpha, beta = 4 * x * y * covariance, (x**2 + y**2) * (variance_x + variance_y)
    if alpha != 0:
        return float(alpha / (beta + EPS))
    return float(beta == 0)


def e_measures(prediction: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How well a map, binarised at each of 256 thresholds from the highest to the lowest, is aligned with the truth.

    Args:
        prediction: `(H, W)`, values in [0, 1].
        truth: `(H, W)`, at least two pixels.
    """
    histogram = np.zeros((2, _LEVELS), np.int64)
    for rows in pieces(truth.shape):
        levels = (prediction[rows] * (_LEVELS - 1)).astype(np.uint8)
        histogram += np.bincount(
            levels.ravel() + truth[rows].ravel() * np.uint16(_LEVELS), minlength=2 * _LEVELS
        ).reshape(2, -1)
    wrong, right = histogram[:, ::-1].cumsum(axis=1)  # found background, and found foreground
    found, there = wrong + right, int(np.count_nonzero(truth))
    if there == 0:
        aligned = truth.size - found
    elif there == truth.size:
        aligned = found
    else:
        means = found / truth.size, there / truth.size
        kinds = [(right, 1, 1), (wrong, 1, 0), (there - right, 0, 1), (truth.size - found - (there - right), 0, 0)]
        # Added as a table: NumPy adds its rows in another order than their sum one after the other.
        table = np.empty((len(kinds), _LEVELS))
        for row, (pixels, of_prediction, of_truth) in zip(table, kinds):
            one, other = of_prediction - means[0], of_truth - means[1]
            alignment = 2 * (one * other) / (one**2 + other**2 + EPS)
            row[:] = (alignment + 1) ** 2 / 4 * pixels
        aligned = table.sum(axis=0)
    curve: NDArray[np.float64] = aligned / (truth.size - 1 + EPS)
    return curve
