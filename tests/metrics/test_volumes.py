"""Scores of volumes agree with MONAI on the whole volume, and with distances by SciPy."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from scipy.ndimage import binary_erosion, distance_transform_edt

from convlora.metrics.volumes import volume_scores

SPACING = (3.0, 1.1, 0.8)


def surface(mask):
    return mask & ~binary_erosion(mask)


def slow_hd95(one, other):
    directed = [
        np.percentile(distance_transform_edt(~surface(there), sampling=SPACING)[surface(here)], 95)
        for here, there in ((one, other), (other, one))
    ]
    return max(directed)


def balls(shape, centres, radius):
    places = np.indices(shape).transpose(1, 2, 3, 0)
    return np.any([((places - centre) ** 2).sum(-1) < radius**2 for centre in centres], axis=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (balls((12, 30, 28), [(5, 12, 12)], 4), balls((12, 30, 28), [(6, 14, 12)], 4.5)),
        (balls((12, 30, 28), [(0, 2, 2), (9, 20, 20)], 4), balls((12, 30, 28), [(1, 3, 27)], 5)),  # at the border
        (balls((2, 30, 28), [(0, 12, 12)], 4), balls((2, 30, 28), [(0, 14, 12)], 3)),
        (np.ones((3, 4, 5), bool), balls((3, 4, 5), [(1, 1, 1)], 1)),
    ],
)
def test_distances_and_dice(one, other):
    found = volume_scores(one.astype(np.uint8), other.astype(np.uint8), [1], 255, SPACING)[1]
    whole = [torch.from_numpy(mask[None, None]) for mask in (one, other)]
    monai = compute_hausdorff_distance(*whole, include_background=True, percentile=95, spacing=list(SPACING))
    assert found.hd95 == pytest.approx(float(monai), rel=1e-6)
    assert found.hd95 == pytest.approx(slow_hd95(one, other), rel=1e-5)
    assert found.dice == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_what_is_ignored_or_absent():
    labels = np.zeros((3, 8, 8), np.uint8)
    labels[1, 2:5, 2:5] = 1
    predicted = labels.copy()
    predicted[0] = 1
    labels[0] = 255
    found = volume_scores(predicted, labels, [1, 2], 255, SPACING)
    assert found[1] == (1.0, 0.0)
    assert found[2] == (None, None)
    assert volume_scores(predicted * 0, labels, [1], 255, SPACING)[1] == (0.0, None)
