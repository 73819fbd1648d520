"""Binary scores against stored published values and pysodmetrics, and their properties on small random images."""

import doctest
import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from convlora.metrics import HIGHER_IS_BETTER, BinaryScores, PixelCounts, binary
from convlora.metrics.binary import MEAN_SCORES
from tests.helpers.tolerances import SCORES

FOLDER = Path(__file__).parents[1] / "reference"
REFERENCE = json.loads((FOLDER / "metrics.json").read_text())
PAIRS = {pair["pair"]: pair for pair in REFERENCE["pairs"]}
with np.load(FOLDER / "metrics_inputs.npz") as archive:
    INPUTS = {name: archive[name] for name in archive.files}

PUBLISHED_NAMES = {
    "s_measure": "sm",
    "e_measure": "em",
    "weighted_f": "fm",
    "mae": "mae",
    "iou": "iou",
    "ber": "ber",
}
SODMETRICS_NAMES = {
    "s_measure": "sm",
    "e_measure": "em_mean",
    "weighted_f": "wfm_beta0p3",
    "weighted_f_beta1": "wfm_beta1",
    "mae": "mae",
}
# Departures from the published evaluation: (score, pair) -> our value. Everything else has to agree.
DEPARTURES = {
    # Published: 0 where prediction and truth are both empty. Finding nothing where nothing is, is right: 1.
    ("iou", "empty_gt_zero_pred"): 1.0,
    ("iou", "empty_gt_soft_pred"): 1.0,
    # Published: 0, by way of max(0, nan), for the standard deviation of a single value. pysodmetrics takes it as 0.
    ("s_measure", "single_pixel"): PAIRS["single_pixel"]["pysodmetrics"]["sm"],
}
# Departure from pysodmetrics: it gives nan for an empty quadrant; the published code ends at 0, and so do we.
DEPARTURES_FROM_SODMETRICS = {("s_measure", "right_edge_column"): 0.0}
# Departure of all BER values: published threshold 125 / 255, ours 0.5 unless asked. Asked for here.
PUBLISHED_BER_THRESHOLD = 125 / 255


def score_pair(pair, threshold=0.5):
    return BinaryScores(threshold=threshold).update(INPUTS[f"{pair}.pred"], INPUTS[f"{pair}.gt"])


@pytest.mark.parametrize("pair", PAIRS)
def test_pair_agrees_with_published_values(pair):
    scores = score_pair(pair)
    scores["ber"] = score_pair(pair, PUBLISHED_BER_THRESHOLD)["ber"]
    for score, published in PUBLISHED_NAMES.items():
        expected = DEPARTURES.get((score, pair), PAIRS[pair]["reference"][published])
        assert scores[score] == pytest.approx(expected, abs=SCORES), score


@pytest.mark.parametrize("pair", PAIRS)
def test_pair_agrees_with_pysodmetrics(pair):
    scores = score_pair(pair)
    for score, column in SODMETRICS_NAMES.items():
        stored = PAIRS[pair]["pysodmetrics"][column]
        expected = DEPARTURES_FROM_SODMETRICS.get((score, pair), stored)
        assert scores[score] == pytest.approx(expected, abs=SCORES), score


def test_departures_are_real():
    for (score, pair), ours in DEPARTURES.items():
        assert abs(PAIRS[pair]["reference"][PUBLISHED_NAMES[score]] - ours) > 0.1
    for score, pair in DEPARTURES_FROM_SODMETRICS:
        assert math.isnan(float(PAIRS[pair]["pysodmetrics"][SODMETRICS_NAMES[score]]))
    assert score_pair("blob_noisy")["ber"] != pytest.approx(PAIRS["blob_noisy"]["reference"]["ber"], abs=1e-3)


def test_set_of_images_agrees_with_published_means():
    pairs = REFERENCE["set_level"]["pairs"]
    collected, with_published_threshold = BinaryScores(), BinaryScores(threshold=PUBLISHED_BER_THRESHOLD)
    for pair in pairs:
        for scores in (collected, with_published_threshold):
            scores.update(INPUTS[f"{pair}.pred"], INPUTS[f"{pair}.gt"])
    result = {**collected.compute(), "ber": with_published_threshold.compute()["ber"]}
    assert result["num_images"] == len(pairs)
    for score, published in PUBLISHED_NAMES.items():
        departure = sum(
            ours - PAIRS[pair]["reference"][published] for (name, pair), ours in DEPARTURES.items() if name == score
        )
        expected = REFERENCE["set_level"]["reference"][published] + departure / len(pairs)
        assert result[score] == pytest.approx(expected, abs=SCORES), score


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [(p, t) for p in (0.0, 0.3, 0.5, 1.0, "ramp") for t in ("none", "all", "one", "corner", "last row", "last column")],
)
@pytest.mark.parametrize("shape", [(8, 8), (1, 5), (2, 1)])
def test_no_nan_and_no_warning_on_degenerate_images(prediction, truth, shape):
    probabilities = (
        np.linspace(0, 1, math.prod(shape)).reshape(shape) if prediction == "ramp" else np.full(shape, prediction)
    )
    labels = np.zeros(shape, dtype=np.uint8)
    where = {
        "all": np.s_[:],
        "one": np.s_[0, 0],
        "corner": np.s_[-1, -1],
        "last row": np.s_[-1],
        "last column": np.s_[:, -1],
    }
    if truth in where:
        labels[where[truth]] = 1
    scores = BinaryScores()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entry = scores.update(probabilities, labels)
    assert all(math.isfinite(value) for value in (*entry.values(), *scores.compute().values()))


@st.composite
def images(draw):
    """Probabilities and labels with ignored pixels, at least one of them valid."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7))
    probabilities = draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=16)))
    labels = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255])))
    if (labels == 255).all():
        labels[0, 0] = 1
    return probabilities, labels


@settings(max_examples=40, deadline=None)
@given(image=images(), junk=st.sampled_from([0.0, 1.0, -3.0, float("nan")]))
def test_ignored_pixels_change_nothing(image, junk):
    probabilities, labels = image
    changed = np.where(labels == 255, np.float32(junk), probabilities)
    relabelled = np.where(labels == 255, -1, labels.astype(int))
    assert BinaryScores().update(probabilities, labels) == BinaryScores(ignore_index=-1).update(changed, relabelled)


@settings(max_examples=25, deadline=None)
@given(image=images(), margin=st.integers(1, 4))
def test_ignored_margin_leaves_pixel_scores_unchanged(image, margin):
    probabilities, labels = image
    padded = BinaryScores().update(np.pad(probabilities, margin), np.pad(labels, margin, constant_values=255))
    scores = BinaryScores().update(probabilities, labels)
    for name in (*PixelCounts._fields, "iou", "dice", "ber", "accuracy", "mae"):
        assert padded[name] == scores[name], name


@settings(max_examples=40, deadline=None)
@given(image=images())
def test_counts_add_up_and_scores_stay_in_range(image):
    probabilities, labels = image
    entry = BinaryScores().update(probabilities, labels)
    assert sum(entry[cell] for cell in PixelCounts._fields) == (labels != 255).sum()
    assert all(math.isfinite(value) for value in entry.values())
    for name in ("iou", "dice", "ber", "accuracy", "mae"):
        assert 0 <= entry[name] <= 1, name
    assert entry["dice"] == pytest.approx(2 * entry["iou"] / (1 + entry["iou"]))


@settings(max_examples=15, deadline=None)
@given(stream=st.lists(images(), min_size=2, max_size=5), cut=st.integers(1, 4))
def test_merging_two_halves_equals_one_pass(stream, cut):
    whole, first, second = BinaryScores(), BinaryScores(), BinaryScores()
    ignored = (np.zeros((3, 3)), np.full((3, 3), 255))
    for number, image in enumerate([*stream, ignored]):
        whole.update(*image)
        (first if number < cut else second).update(*image)
    first.merge(json.loads(json.dumps(second.state_dict())))
    assert first.per_image == whole.per_image
    assert first.compute() == whole.compute()


def test_merging_order_does_not_matter():
    halves = BinaryScores(), BinaryScores()
    for number, pair in enumerate(REFERENCE["set_level"]["pairs"][:8]):
        halves[number % 2].update(INPUTS[f"{pair}.pred"], INPUTS[f"{pair}.gt"])
    forward, backward = BinaryScores(), BinaryScores()
    for merged, states in ((forward, halves), (backward, halves[::-1])):
        for half in states:
            merged.merge(half.state_dict())
    assert forward.compute() == backward.compute()


def test_pooled_scores_come_from_summed_counts():
    scores = BinaryScores()
    scores.update(np.array([[0.9, 0.9, 0.9, 0.1]]), np.array([[1, 1, 1, 0]]))  # 3 right
    scores.update(np.array([[0.9, 0.1]]), np.array([[0, 1]]))  # none right
    result = scores.compute()
    assert (result["iou"], result["dice"]) == (0.5, 0.5)
    assert (result["iou_pooled"], result["dice_pooled"]) == (3 / 5, 6 / 8)
    assert result["accuracy"] == 4 / 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_any_type_give_what_arrays_give(dtype):
    probabilities = torch.from_numpy(INPUTS["blob_soft.pred"]).to(dtype)
    labels = torch.from_numpy(INPUTS["blob_soft.gt"])
    as_array = probabilities.double().numpy()
    for truth in (labels, labels.long(), labels.bool()):
        assert BinaryScores().update(probabilities, truth) == BinaryScores().update(as_array, labels.numpy())


def test_image_with_everything_ignored_is_skipped_and_counted():
    scores = BinaryScores()
    assert scores.update(np.zeros((4, 4)), np.full((4, 4), 255)) is None
    with pytest.raises(ValueError, match="every pixel of the one image is ignored"):
        scores.compute()
    scores.update(np.eye(4), np.eye(4, dtype=int))
    result = scores.compute()
    assert (result["num_images"], result["num_skipped"], result["iou"]) == (1, 1, 1.0)


def test_every_score_has_a_direction():
    scores = BinaryScores()
    scores.update(np.eye(4), np.eye(4, dtype=int))
    of_several = {"miou", "mdice", "mean_accuracy", "boundary_f"}
    assert set(HIGHER_IS_BETTER) - of_several == set(scores.compute()) - {"num_images", "num_skipped"}
    assert set(MEAN_SCORES) <= set(HIGHER_IS_BETTER)
    # A right answer beats a wrong one in the stated direction.
    right, wrong = score_pair("blob_soft"), score_pair("blob_inverted")
    for name in set(HIGHER_IS_BETTER) & set(right):
        assert (right[name] > wrong[name]) == HIGHER_IS_BETTER[name], name


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.zeros((3, 4)), np.zeros((4, 3), int), "probabilities have shape (3, 4), labels (4, 3)"),
        (np.zeros((1, 3, 4)), np.zeros((1, 3, 4), int), "not shape (1, 3, 4)"),
        (np.zeros((1, 1)), np.zeros((1, 1), int), "at least two pixels"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "labels must be integers or booleans, not float64"),
        (np.zeros((2, 2)), np.array([[0, 1], [2, 255]]), "labels must be 0, 1 or 255 (ignored), but also contain [2]"),
        (np.full((2, 2), 3.0), np.zeros((2, 2), int), "logits need a sigmoid first"),
        (np.full((2, 2), np.nan), np.zeros((2, 2), int), "probabilities must be in [0, 1]"),
    ],
)
def test_wrong_input_is_refused(probabilities, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BinaryScores().update(probabilities, labels)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="ignore_index must be neither 0 nor 1"):
        BinaryScores(ignore_index=1)
    with pytest.raises(ValueError, match="threshold must be at least 0 and below 1, but is 125"):
        BinaryScores(threshold=125)
    with pytest.raises(ValueError, match=re.escape("threshold 0.4 into scores with threshold 0.5")):
        BinaryScores().merge(BinaryScores(threshold=0.4).state_dict())


def test_example_in_the_docstring():
    result = doctest.testmod(binary)
    assert result.attempted
    assert not result.failed
