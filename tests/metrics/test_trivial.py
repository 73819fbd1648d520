import doctest
import json

import numpy as np
import pytest

from convlora.metrics import BinaryScores, TrivialBaselines, trivial


@pytest.fixture
def label_maps():
    generator = np.random.default_rng(0)
    maps = [generator.choice([0, 1, 255], size=(5, 6 + n), p=[0.6, 0.3, 0.1]) for n in range(4)]
    empty, full, ignored = np.zeros((4, 4), int), np.ones((4, 4), int), np.full((4, 4), 255)
    return [*maps, empty, full, ignored]


@pytest.mark.parametrize(("answer", "probability"), [("all_background", 0.0), ("all_foreground", 1.0)])
def test_equals_scoring_a_constant_prediction(label_maps, answer, probability):
    baselines, scores = TrivialBaselines(), BinaryScores()
    for labels in label_maps:
        baselines.update(labels)
        scores.update(np.full(labels.shape, probability), labels)
    expected = scores.compute()
    result = baselines.compute()[answer]
    assert set(result) == {"iou", "dice", "iou_pooled", "dice_pooled", "precision", "recall", "accuracy"}
    assert result == {name: expected[name] for name in result}
    assert baselines.num_skipped == scores.num_skipped == 1


def test_merging_two_halves_equals_one_pass(label_maps):
    whole, first, second = TrivialBaselines(), TrivialBaselines(), TrivialBaselines()
    for number, labels in enumerate(label_maps):
        whole.update(labels)
        (first if number % 2 else second).update(labels)
    first.merge(json.loads(json.dumps(second.state_dict())))
    assert first.compute() == whole.compute()
    assert first.num_skipped == whole.num_skipped


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="no labels to score: 0 images"):
        TrivialBaselines().compute()
    with pytest.raises(ValueError, match="ignore_index must be neither 0 nor 1"):
        TrivialBaselines(ignore_index=0)
    with pytest.raises(ValueError, match="ignore_index -1 into labels with ignore_index 255"):
        TrivialBaselines().merge(TrivialBaselines(ignore_index=-1).state_dict())


def test_example_in_the_docstring():
    result = doctest.testmod(trivial)
    assert result.attempted
    assert not result.failed
