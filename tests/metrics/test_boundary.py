import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.segmentation.utils import distance_transform, mask_edges

from convlora.metrics import MultiClassScores
from convlora.metrics.boundary import TOLERANCE, boundary_counts, boundary_f


def shapes(seed, size=(60, 80), classes=4):
    """Two maps of discs, the second with the discs shifted."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    maps = [np.zeros(size, dtype=np.int64) for _ in range(2)]
    for kind in range(1, classes):
        y, x, radius = rng.uniform(16, 40), rng.uniform(16, 62), rng.uniform(5, 14)
        for one, shift in zip(maps, (0, rng.integers(0, 4)), strict=True):
            one[np.hypot(rows - y - shift, columns - x) < radius] = kind
    return maps


@pytest.mark.parametrize("seed", range(5))
def test_the_counts_are_those_of_torchmetrics(seed):
    predicted, truth = shapes(seed)
    counts = boundary_counts(predicted, truth, np.ones(truth.shape, bool), 4)
    tolerance = max(1, TOLERANCE * math.hypot(*truth.shape))
    for kind in range(1, 4):  # the background reaches the edge of the image, which torchmetrics takes for a boundary
        edges = mask_edges(torch.from_numpy(predicted == kind), torch.from_numpy(truth == kind), crop=False)
        own, true = (edge.bool() for edge in edges)
        if not own.any() or not true.any():
            continue
        # Its other engine does not give distances for boolean maps (torchmetrics 1.9.0).
        to_true, to_own = (torch.as_tensor(distance_transform(~edge, engine="scipy")) for edge in (true, own))
        near = (to_true[own] <= tolerance).sum(), (to_own[true] <= tolerance).sum()
        assert counts[kind].tolist() == [own.sum(), near[0], true.sum(), near[1]]


def test_equal_maps_agree_fully_and_distant_ones_not_at_all():
    _, truth = shapes(0)
    scores = MultiClassScores("abcd")
    scores.update(truth, truth)
    assert scores.compute()["boundary_f"] == 1
    far = np.zeros((60, 80), dtype=np.int64)
    near = far.copy()
    far[:10, :10], near[50:, 60:] = 1, 1
    counts = boundary_counts(far, near, np.ones(far.shape, bool), 2)
    assert boundary_f(counts[1]) == 0


def test_nothing_to_outline_has_no_score():
    flat = np.zeros((10, 10), dtype=np.int64)
    scores = MultiClassScores("ab")
    scores.update(flat, flat)
    values = scores.compute()
    assert values["boundary_f"] == 1, "nothing there and nothing outlined is a right answer"
    assert values["per_class"]["b"]["boundary_f"] is None
    assert boundary_f(np.array([5, 0, 0, 0])) == 0


def test_ignored_pixels_hide_boundaries():
    predicted, truth = shapes(1)
    valid = np.ones(truth.shape, bool)
    valid[20:40, 20:50] = False
    changed = np.where(valid, predicted, (predicted + 1) % 4)
    labels = np.where(valid, truth, 255)
    first, second = MultiClassScores("abcd"), MultiClassScores("abcd")
    first.update(predicted, labels)
    second.update(changed, labels)
    assert first.compute() == second.compute()


@pytest.mark.parametrize("gap", range(1, 8))
def test_right_outlines_near_ignored_pixels_are_confirmed(gap):
    truth = np.zeros((400, 400), dtype=np.int64)
    predicted = truth.copy()
    truth[:, 200:], predicted[:, 203:] = 1, 1  # within the tolerance of 4.24 pixels
    valid = np.ones(truth.shape, bool)
    valid[:, 200 - gap - 6 : 200 - gap] = False
    for kind in range(2):
        found = boundary_f(boundary_counts(predicted, truth, valid, 2)[kind])
        assert found == 1 or (found is None and gap < 3), "too near to be counted, or right"


def test_boundaries_merge():
    whole, first, second = (MultiClassScores("abcd") for _ in range(3))
    for seed, part in ((0, first), (1, second)):
        whole.update(*shapes(seed))
        part.update(*shapes(seed))
    first.merge(second.state_dict())
    assert first.compute() == whole.compute()
    with pytest.raises(ValueError, match="another boundaries"):
        first.merge(MultiClassScores("abcd", boundaries=False).state_dict())
