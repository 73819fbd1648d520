import doctest

import numpy as np
import pytest

from convlora.metrics import BinaryScores, thresholds
from convlora.metrics.thresholds import THRESHOLDS, ThresholdCurve


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    pairs = [(generator.random((9, 8)).round(2 + n), generator.choice([0, 1, 255], (9, 8))) for n in range(4)]
    return [*pairs, (np.full((3, 3), 0.5), np.zeros((3, 3), int)), (np.full((3, 3), 0.2), np.ones((3, 3), int))]


def test_it_equals_scoring_at_each_threshold(images):
    curve = BinaryScores()
    for probabilities, labels in images:
        curve.update(probabilities, labels)
    for threshold, total in zip(THRESHOLDS, curve.thresholds.sums, strict=True):
        scores = BinaryScores(threshold=threshold, structure=False)
        for probabilities, labels in images:
            scores.update(np.where(labels == 255, 0, probabilities), labels)
        if threshold == 0.5 or threshold * 100 == round(threshold * 100):  # others are not exact as binary fractions
            assert total / len(images) == pytest.approx(scores.compute()["iou"]), threshold
    assert curve.thresholds.compute()["iou_at_half"] == pytest.approx(curve.compute()["iou"])


def test_the_best_threshold_is_found_and_ties_stay_near_a_half():
    curve = ThresholdCurve()
    truth = np.array([[True, True, False, False]])
    curve.update(np.array([[0.305, 0.9, 0.205, 0.0]]), truth, np.full((1, 4), True))
    assert curve.compute() == {"best": 0.3, "iou": 1.0, "iou_at_half": 0.5}
    assert ThresholdCurve().compute() is None


def test_parts_can_be_merged(images):
    whole, one, two = BinaryScores(), BinaryScores(), BinaryScores()
    for number, pair in enumerate(images):
        whole.update(*pair)
        (one, two)[number % 2].update(*pair)
    one.merge(two.state_dict())
    assert one.thresholds.compute() == pytest.approx(whole.thresholds.compute())


def test_without_the_slow_scores_it_is_not_collected():
    assert BinaryScores(structure=False).thresholds is None


def test_the_example():
    assert doctest.testmod(thresholds).failed == 0
