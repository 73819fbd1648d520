"""Scores of a binary segmentation, one image at a time."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convlora.errors import InputError
from convlora.metrics.counts import (
    PixelCounts,
    above,
    accuracy,
    add_counts,
    balanced_error_rate,
    count_pixels,
    dice,
    iou,
    nothing_scored,
    precision,
    recall,
)
from convlora.metrics.structure import structure_scores
from convlora.metrics.thresholds import ThresholdCurve

MEAN_SCORES = ("iou", "dice", "mae", "ber", "s_measure", "e_measure", "weighted_f", "weighted_f_beta1")
"""Scores that are computed for each image and then averaged over the images."""

STRUCTURE_SCORES = ("mae", "s_measure", "e_measure", "weighted_f", "weighted_f_beta1")
"""Those of them that look at whole images and cost accordingly."""


class BinaryScores:
    """Collects the scores of a binary segmentation image by image, each at its own size.

    `update` takes one image, `compute` reduces what was collected, `state_dict` and `merge` bring together what several
    processes collected. What every score means, and where it departs from the published evaluation, is in
    `docs/metrics.md`.

    Args:
        ignore_index: The label of pixels that do not count; any integer but 0 and 1.
        threshold: A pixel is predicted foreground if its probability is larger than this. The published evaluation uses
            125 / 255 for `ber` and 0.5 for the rest; here one threshold serves all.
        structure: Whether to compute `mae` and the structure measures (`STRUCTURE_SCORES`), by far the slowest part.

    Attributes:
        per_image: One dictionary per scored image, in the order of the updates: the four counts `true_positives`,
            `false_positives`, `true_negatives`, `false_negatives`, the scores of `MEAN_SCORES`, and `accuracy`.
        num_skipped: How many images had no valid pixel. They appear in no score.
        thresholds: What other thresholds would give; with `structure` only.

    Raises:
        ValueError: If `ignore_index` or `threshold` is not allowed.

    Example:
        >>> import numpy as np
        >>> scores = BinaryScores()
        >>> _ = scores.update(np.array([[0.9, 0.2], [0.7, 0.1]]), np.array([[1, 0], [0, 255]]))
        >>> scores.compute()["iou"]
        0.5
    """

    def __init__(self, ignore_index: int = 255, threshold: float = 0.5, structure: bool = True) -> None:
        if ignore_index in (0, 1):
            raise ValueError(f"ignore_index must be neither 0 nor 1, which are the two classes, but is {ignore_index}")
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, but is {threshold}")
        self.ignore_index = ignore_index
        self.threshold = threshold
        self.structure = structure
        self.per_image: list[dict[str, float]] = []
        self.num_skipped = 0
        self.thresholds = ThresholdCurve() if structure else None

    def update(
        self, probabilities: np.ndarray | torch.Tensor, labels: np.ndarray | torch.Tensor
    ) -> dict[str, float] | None:
        """Score one image and keep the result.

        Args:
            probabilities: `(H, W)` floating: the probability of the foreground, in [0, 1]. Values at ignored pixels do
                not matter.
            labels: `(H, W)` integer or boolean: 0, 1 or `ignore_index`. At least two pixels.

        Returns:
            The entry added to `per_image`, or None if every pixel is ignored.

        Raises:
            ValueError: If a shape, a type or a value is none of the above.
        """
        label_map = checked_labels(labels, self.ignore_index)
        valid = label_map != self.ignore_index
        score_map = _checked_probabilities(probabilities, valid)
        if not valid.any():
            self.num_skipped += 1
            return None

        true = label_map == 1
        counts = count_pixels(above(score_map, self.threshold), true, valid)
        entry: dict[str, float] = {
            **counts._asdict(),
            "iou": iou(counts),
            "dice": dice(counts),
            "ber": balanced_error_rate(counts),
            "accuracy": accuracy(counts),
        }
        if self.structure:
            entry |= structure_scores(score_map, true, valid)
        if self.thresholds is not None:
            self.thresholds.update(score_map, true, valid)
        self.per_image.append(entry)
        return entry

    def compute(self) -> dict[str, float]:
        """Reduce what was collected so far.

        Returns:
            The means over the images of `MEAN_SCORES`; `iou_pooled`, `dice_pooled`, `precision`, `recall` and
            `accuracy`, from the counts summed over the images; `num_images` and `num_skipped`. `HIGHER_IS_BETTER` tells
            the direction of each score.

        Raises:
            InputError: If no image could be scored.
        """
        if not self.per_image:
            raise InputError(nothing_scored(self.num_skipped))
        pooled = add_counts(
            PixelCounts(*(int(entry[cell]) for cell in PixelCounts._fields)) for entry in self.per_image
        )
        # fsum rounds once, so that the order in which processes are merged does not show in the last digit.
        names = [name for name in MEAN_SCORES if self.structure or name not in STRUCTURE_SCORES]
        means = {name: math.fsum(entry[name] for entry in self.per_image) / len(self.per_image) for name in names}
        return {
            **means,
            "iou_pooled": iou(pooled),
            "dice_pooled": dice(pooled),
            "precision": precision(pooled),
            "recall": recall(pooled),
            "accuracy": accuracy(pooled),
            "num_images": len(self.per_image),
            "num_skipped": self.num_skipped,
        }

    def state_dict(self) -> dict[str, Any]:
        """What was collected, as plain lists and numbers that JSON can hold and `merge` takes."""
        return {
            "ignore_index": self.ignore_index,
            "threshold": self.threshold,
            "structure": self.structure,
            "per_image": [dict(entry) for entry in self.per_image],
            "num_skipped": self.num_skipped,
            **({} if self.thresholds is None else {"thresholds": self.thresholds.state_dict()}),
        }

    def merge(self, other_state: Mapping[str, Any]) -> None:
        """Add what another collector gathered, for instance one of another process.

        Args:
            other_state: The other one's `state_dict()`.

        Raises:
            ValueError: If the other one worked with other settings.
        """
        for setting in ("ignore_index", "threshold", "structure"):
            if other_state[setting] != getattr(self, setting):
                raise ValueError(
                    f"cannot merge scores with {setting} {other_state[setting]} into scores with "
                    f"{setting} {getattr(self, setting)}"
                )
        self.per_image.extend(dict(entry) for entry in other_state["per_image"])
        self.num_skipped += other_state["num_skipped"]
        if self.thresholds is not None:
            self.thresholds.merge(other_state["thresholds"])


def checked_labels(labels: np.ndarray | torch.Tensor, ignore_index: int) -> NDArray[np.integer]:
    """Bring one image's labels to a NumPy array and check them.

    Args:
        labels: `(H, W)` integer or boolean: 0, 1 or `ignore_index`.
        ignore_index: The label of pixels that do not count.

    Returns:
        `(H, W)`: uint8 as it is given, all else as int64.

    Raises:
        ValueError: If the shape, the type or a value is none of the above.
    """
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.ndim != 2 or array.size < 2:
        raise ValueError(f"labels must have shape (H, W) and at least two pixels, not shape {array.shape}")
    if array.dtype.kind not in "iub":
        raise ValueError(f"labels must be integers or booleans, not {array.dtype}")
    label_map = array if array.dtype == np.uint8 else array.astype(np.int64)
    unknown = (label_map > 1) & (label_map != ignore_index)
    if array.dtype.kind == "i":
        unknown |= (label_map < 0) & (label_map != ignore_index)
    if unknown.any():
        found = np.unique(label_map[unknown])[:10].tolist()
        raise ValueError(f"labels must be 0, 1 or {ignore_index} (ignored), but also contain {found}")
    return label_map


def _checked_probabilities(probabilities: np.ndarray | torch.Tensor, valid: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Probabilities as (H, W) float32 or float64, 0 where ignored."""
    array = probabilities.detach().cpu() if isinstance(probabilities, torch.Tensor) else np.asarray(probabilities)
    if isinstance(array, torch.Tensor):
        array = (array if array.dtype == torch.float32 else array.double()).numpy()
    score_map: NDArray[np.floating] = array if array.dtype == np.float32 else array.astype(np.float64)
    if array.shape != valid.shape:
        raise ValueError(f"probabilities have shape {array.shape}, labels {valid.shape}: they must be the same")
    if not valid.all():
        score_map = np.where(valid, score_map, score_map.dtype.type(0))
    low, high = score_map.min(), score_map.max()
    if not (low >= 0 and high <= 1):  # false for NaN as well
        raise ValueError(
            f"probabilities must be in [0, 1], but reach from {low} to {high}; logits need a sigmoid first"
        )
    return score_map
