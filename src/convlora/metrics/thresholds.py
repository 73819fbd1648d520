"""Which threshold of the foreground's probability gives the best IoU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlora.metrics.sums import pieces

_BINS = 100
THRESHOLDS = tuple(place / _BINS for place in range(1, _BINS))


class ThresholdCurve:
    """Collects the mean IoU over images at the thresholds 0.01, 0.02, ... 0.99.

    Each image is counted once, in a histogram of its probabilities, from which its IoU at every threshold follows.

    Example:
        >>> import numpy as np
        >>> curve = ThresholdCurve()
        >>> curve.update(np.array([[0.45, 0.3], [0.2, 0.1]]), np.array([[1, 0], [0, 0]]) == 1, np.full((2, 2), True))
        >>> curve.compute()
        {'best': 0.44, 'iou': 1.0, 'iou_at_half': 0.0}
    """

    def __init__(self) -> None:
        self.sums: NDArray[np.float64] = np.zeros(len(THRESHOLDS))
        self.num_images = 0

    def update(self, probabilities: NDArray[np.floating], truth: NDArray[np.bool_], valid: NDArray[np.bool_]) -> None:
        """Takes in one image.

        Args:
            probabilities: Probabilities of the foreground, `(H, W)` in [0, 1].
            truth: Whether a pixel is foreground, `(H, W)`.
            valid: Whether a pixel counts, `(H, W)`.
        """
        # Bin b holds what is above b / 100 and at most (b + 1) / 100: a pixel is foreground if it is above a threshold.
        counts = np.zeros((2, _BINS), np.int64)
        is_whole = bool(valid.all())
        for rows in pieces(truth.shape):
            upper = np.ceil(probabilities[rows].astype(np.float64) * _BINS).astype(np.uint8)
            bins = np.maximum(upper, np.uint8(1)) + truth[rows] * np.uint8(_BINS) - np.uint8(1)
            bins = bins.ravel() if is_whole else bins[valid[rows]]
            counts += np.bincount(bins, minlength=2 * _BINS).reshape(2, _BINS)
        above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]  # pixels of each kind in this bin or a higher one
        right, found = above[1, 1:], above.sum(axis=0)[1:]
        either = counts[1].sum() + found - right
        self.sums += np.where(either > 0, right / np.maximum(either, 1), 1.0)
        self.num_images += 1

    def compute(self) -> dict[str, float] | None:
        """The best threshold with its IoU, and the IoU at 0.5; None if there was no image.

        Of several equally good thresholds it is the one nearest to 0.5.
        """
        if not self.num_images:
            return None
        means = self.sums / self.num_images
        equal = np.flatnonzero(means >= means.max() - 1e-9)
        half = THRESHOLDS.index(0.5)
        best = int(equal[np.abs(equal - half).argmin()])
        return {"best": THRESHOLDS[best], "iou": float(means[best]), "iou_at_half": float(means[half])}

    def state_dict(self) -> dict[str, Any]:
        """What was collected, as JSON can hold it."""
        return {"sums": self.sums.tolist(), "num_images": self.num_images}

    def merge(self, other_state: Mapping[str, Any]) -> None:
        """Adds what another one collected."""
        self.sums += np.array(other_state["sums"])
        self.num_images += int(other_state["num_images"])
