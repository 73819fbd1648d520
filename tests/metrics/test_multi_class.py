import json

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore

from convlora.metrics.multi_class import CommonClassBaseline, MultiClassScores

NAMES = ("a", "b", "c", "d")


def maps(seed=0, count=3, classes=4, ignored=0.1):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = tuple(rng.integers(5, 20, 2))
        truth = rng.integers(0, classes, size)
        predicted = np.where(rng.random(size) < 0.6, truth, rng.integers(0, classes, size))
        truth[rng.random(size) < ignored] = 255
        yield predicted, truth


def scored(pairs, names=NAMES):
    scores = MultiClassScores(names)
    for predicted, truth in pairs:
        scores.update(predicted, truth)
    return scores


def test_the_scores_are_those_of_torchmetrics():
    pairs = list(maps())
    values = scored(pairs).compute()
    predicted = torch.from_numpy(np.concatenate([p.ravel() for p, _ in pairs]))
    truth = torch.from_numpy(np.concatenate([t.ravel() for _, t in pairs]))
    per_class = MulticlassJaccardIndex(4, average="none", ignore_index=255)(predicted, truth)
    assert [values["per_class"][name]["iou"] for name in NAMES] == pytest.approx(per_class.tolist(), abs=1e-6)
    assert values["miou"] == pytest.approx(per_class.mean().item(), abs=1e-6)
    micro = MulticlassAccuracy(4, average="micro", ignore_index=255)(predicted, truth)
    macro = MulticlassAccuracy(4, average="macro", ignore_index=255)(predicted, truth)
    assert values["accuracy"] == pytest.approx(micro.item(), abs=1e-6)
    assert values["mean_accuracy"] == pytest.approx(macro.item(), abs=1e-6)
    known = truth != 255
    dice = DiceScore(4, input_format="index", average=None, aggregation_level="global")(
        predicted[known][None, :, None], truth[known][None, :, None]
    )
    assert [values["per_class"][name]["dice"] for name in NAMES] == pytest.approx(dice.flatten().tolist(), abs=1e-6)


def test_absent_classes_are_left_out_and_only_predicted_ones_count_as_zero():
    values = scored([(np.array([[0, 0], [1, 1]]), np.array([[0, 0], [1, 0]]))]).compute()
    assert values["per_class"]["c"] == {
        "iou": None, "dice": None, "accuracy": None, "boundary_f": None, "pixels": 0.0,
    }  # fmt: skip
    assert values["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    values = scored([(np.array([[0, 2], [1, 1]]), np.array([[0, 0], [1, 1]]))]).compute()
    assert values["per_class"]["c"]["iou"] == 0
    assert values["per_class"]["c"]["accuracy"] is None
    assert values["miou"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    json.dumps(values, allow_nan=False)


def test_ignored_pixels_count_nowhere():
    predicted, truth = next(maps(ignored=0.5))
    other = np.where(truth == 255, (predicted + 1) % 4, predicted)
    assert scored([(predicted, truth)]).compute() == scored([(other, truth)]).compute()
    scores = scored([(predicted, np.full_like(truth, 255))])
    assert scores.num_skipped == 1
    with pytest.raises(ValueError, match="every pixel of the one image is ignored"):
        scores.compute()


def test_merging_is_scoring_all_at_once():
    pairs = list(maps(count=5))
    whole, first, second = scored(pairs), scored(pairs[:2]), scored(pairs[2:])
    first.merge(json.loads(json.dumps(second.state_dict())))
    assert first.compute() == whole.compute()
    with pytest.raises(ValueError, match="other classes"):
        first.merge(MultiClassScores(("x", "y")).state_dict())


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [([[0, 4]], [[0, 1]], "the semantic map"), ([[0, 1]], [[0, 7]], "labels"), ([[0, 1]], [[0]], "two maps"),
     ([[0.5, 1]], [[0, 1]], "integers")],
)  # fmt: skip
def test_what_is_no_map_of_classes_is_refused(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        MultiClassScores(NAMES).update(np.array(predicted), np.array(truth))


def test_the_most_common_class_everywhere():
    pairs = list(maps())
    baseline = CommonClassBaseline(NAMES)
    for _, truth in pairs:
        baseline.update(truth)
    sizes = np.bincount(np.concatenate([truth[truth != 255] for _, truth in pairs]))
    values = baseline.compute()["most_common_class"]
    assert values["accuracy"] == pytest.approx(sizes.max() / sizes.sum())
    assert values["miou"] == pytest.approx(sizes.max() / sizes.sum() / 4)
