"""Scores of whole volumes: Dice and the 95% Hausdorff distance, class by class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ClassInVolume(NamedTuple):
    """Scores of a class in a volume.

    Attributes:
        dice: 2 |P and T| / (|P| + |T|); None: the class is neither in the labels nor predicted.
        hd95: The larger one of the 95th percentiles of the distances from the surface of the prediction to that of the
            labels, and back; None: one of the two is empty, so there is no distance.
    """

    dice: float | None
    hd95: float | None


def volume_scores(
    predicted: np.ndarray, labels: np.ndarray, classes: Sequence[int], ignore_index: int, spacing: Sequence[float]
) -> dict[int, ClassInVolume]:
    """Scores a volume.

    Args:
        predicted: Class indices (slices, height, width).
        labels: Likewise. Ignored voxels belong to no class in either.
        classes: Which classes to score.
        ignore_index: Label of ignored voxels.
        spacing: Between neighbouring voxels along the three axes; the unit of the distances.

    Returns:
        The scores of each class.

    Source: The distances are those of `monai.metrics.compute_hausdorff_distance`.
    """
    counted = labels != ignore_index
    return {index: _scores((predicted == index) & counted, (labels == index) & counted, spacing) for index in classes}


def _scores(predicted: np.ndarray, true: np.ndarray, spacing: Sequence[float]) -> ClassInVolume:
    total = int(predicted.sum()) + int(true.sum())
    if not total:
        return ClassInVolume(None, None)
    dice = 2 * int((predicted & true).sum()) / total
    if not (predicted.any() and true.any()):
        return ClassInVolume(dice, None)
    import torch
    from monai.metrics import compute_hausdorff_distance

    one, other = (torch.from_numpy(box[None, None]) for box in _cropped(predicted, true))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compute_hausdorff_distance(
            one, other, include_background=True, percentile=95, spacing=[float(one) for one in spacing]
        )
    return ClassInVolume(dice, float(found))


def _cropped(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both within the box that holds them, as MONAI crops them too, but before they become numbers of four bytes."""
    either, where = predicted | true, []
    for axis in range(3):
        used = np.flatnonzero(either.any(axis=tuple(other for other in range(3) if other != axis)))
        where.append(slice(int(used[0]), int(used[-1]) + 1))
    return predicted[tuple(where)], true[tuple(where)]
