"""Scores of the probability map itself, without a threshold: MAE, S-measure, E-measure and weighted F-measure.

The measures are those of `pysodmetrics`; this module prepares one image for them and settles the degenerate cases.
"""

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from convlora.cores import usable_cores

PUBLISHED_BETA_SQUARED = 0.3  # of the weighted F-measure as published for Conv-LoRA; the usual choice is 1
_LARGE = 1 << 20  # pixels from which a thread is worth its while


def structure_scores(
    probabilities: NDArray[np.float64], foreground: NDArray[np.bool_], valid: NDArray[np.bool_]
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
    # Of a large image the slowest measure is computed beside the others: they leave Python's lock free.
    is_shared = truth.size >= _LARGE and usable_cores() > 1
    with warnings.catch_warnings():
        # Empty quadrants of the S-measure warn about means of nothing; the outcome is looked at below.
        warnings.simplefilter("ignore", category=RuntimeWarning)
        with ThreadPoolExecutor(1) if is_shared else nullcontext() as pool:
            beside = None if pool is None else pool.submit(_weighted_f, stretched, truth)
            mae, s_measure, e_measure = _others(stretched, truth, valid)
        weighted_f, weighted_f_beta1 = _weighted_f(stretched, truth) if beside is None else beside.result()
    return {
        "mae": float(mae),
        "s_measure": float(s_measure) if math.isfinite(s_measure) else 0.0,
        "e_measure": float(e_measure),
        "weighted_f": float(weighted_f),
        "weighted_f_beta1": float(weighted_f_beta1),
    }


def _others(
    stretched: NDArray[np.float64], truth: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """MAE, S-measure and mean E-measure."""
    import py_sod_metrics as sod  # slow to import, so only where it is used

    with np.errstate(all="ignore"):
        mae = _score(sod.MAE(), stretched[valid], truth[valid])["mae"]
        s_measure = _score(sod.Smeasure(), stretched, truth)["sm"]
        e_measure = np.mean(_score(sod.Emeasure(), stretched, truth)["em"]["curve"])
    return mae, s_measure, float(e_measure)


def _weighted_f(stretched: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The weighted F-measure for both values of beta: what takes long does not depend on beta."""
    import py_sod_metrics as sod

    if not truth.any():
        return np.zeros(2)
    with np.errstate(all="ignore"):
        both: NDArray[np.float64] = sod.WeightedFmeasure(beta=np.array([PUBLISHED_BETA_SQUARED, 1])).cal_wfm(
            stretched, truth
        )
    return both


def stretch(probabilities: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Map the valid probabilities linearly onto [0, 1] (unless they are all equal) and set the ignored ones to 0.

    Args:
        probabilities: `(H, W)`.
        valid: `(H, W)`, at least one pixel.

    Returns:
        `(H, W)` float64, values in [0, 1].
    """
    seen = probabilities[valid]
    low, high = seen.min(), seen.max()
    stretched = np.zeros_like(probabilities)
    stretched[valid] = (seen - low) / (high - low) if high > low else seen
    return stretched


def _score(measure, prediction: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict:  # type: ignore[no-untyped-def]
    measure.step(prediction, truth, normalize=False)
    results: dict = measure.get_results()
    return results
