"""The losses against stored published values, against slow restatements of their formulas, and under masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from convlora.losses import BALANCED_LOSSES, LOSSES, balanced_bce_loss, structure_loss, structure_loss_mean_bce
from convlora.losses.functional import _border_weight, _prepare
from tests.helpers.tolerances import BY_DTYPE, REFERENCE

FOLDER = Path(__file__).parents[1] / "reference"
VECTORS = load_file(FOLDER / "losses.safetensors")
CASES = {case["case"]: case for case in json.loads((FOLDER / "losses.json").read_text())["cases"]}
PUBLISHED = {
    "structure_weighted_bce": structure_loss,
    "structure_mean_bce": structure_loss_mean_bce,
    "balanced_bce": balanced_bce_loss,
}


def value_and_gradient(loss, logits, target, valid=None):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target, valid)
    value.backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_value_and_gradient_are_the_published_ones(case, name):
    logits, target = VECTORS[f"{case}/logits"], VECTORS[f"{case}/target"]
    value, gradient = value_and_gradient(PUBLISHED[name], logits, target)

    expected = VECTORS[f"{case}/grad.{name}"]
    assert abs(value.item() - CASES[case][name]) <= REFERENCE * abs(CASES[case][name])
    assert (gradient - expected).abs().max() <= REFERENCE * expected.abs().max()


@pytest.mark.parametrize("case", CASES)
def test_border_weight_is_the_published_one(case):
    pixels = _prepare(VECTORS[f"{case}/logits"], VECTORS[f"{case}/target"], None)
    expected = VECTORS[f"{case}/pixel_weight"]
    assert (_border_weight(pixels) - expected).abs().max() <= REFERENCE * expected.max()


def slow_border_weight(target):
    H, W = target.shape
    weight = np.empty((H, W))
    for row in range(H):
        for column in range(W):
            window = target[max(row - 15, 0) : row + 16, max(column - 15, 0) : column + 16]
            weight[row, column] = 1 + 5 * abs(window.sum() / 31**2 - target[row, column])
    return weight


def slow_loss(name, logits, target, valid, class_weights=(1.0, 1.0)):
    """The formulas over lists of valid pixels, in float64; arrays (B, H, W)."""
    low, high = class_weights
    target = np.where(valid, target, 0.0)
    images = []  # per image with a valid pixel: weights, targets, probabilities, cross entropies
    for x, t, v in zip(logits, target, valid):
        if v.any():
            weight, x, t = slow_border_weight(t)[v], x[v], t[v]
            images.append((weight, t, 1 / (1 + np.exp(-x)), np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * t))
    if not images:
        return 0.0
    all_targets = np.concatenate([t for _, t, _, _ in images])
    all_entropies = np.concatenate([entropy for *_, entropy in images])
    all_weights = low + (high - low) * all_targets
    entropy_of_all = (all_weights * all_entropies).sum() / all_weights.sum()
    if name == "balanced-bce":
        all_probabilities = np.concatenate([p for _, _, p, _ in images])
        P, N = all_targets.sum() + 1e-10, (1 - all_targets).sum()
        terms = -N / P * all_targets * np.log(all_probabilities) - (1 - all_targets) * np.log(1 - all_probabilities)
        return P / (P + N) * terms.mean()
    ious = [1 - ((w * p * t).sum() + 1) / ((w * (p + t)).sum() - (w * p * t).sum() + 1) for w, t, p, _ in images]
    if name == "structure":
        both = [(w * (low + (high - low) * t), entropy) for w, t, _, entropy in images]
        return np.mean([(w * entropy).sum() / w.sum() for w, entropy in both]) + np.mean(ious)
    if name == "structure-mean-bce":
        return entropy_of_all + np.mean(ious)
    dices = [1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1) for _, t, p, _ in images]
    return entropy_of_all + np.mean(dices)


@st.composite
def batches(draw, dtype=torch.float64):
    """Logits, soft or hard targets and a mask with any share of ignored pixels, (B, 1, H, W)."""
    shape = (draw(st.integers(1, 3)), 1, draw(st.integers(1, 9)), draw(st.integers(1, 40)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    logits = 4 * torch.randn(shape, generator=generator, dtype=dtype)
    target = torch.rand(shape, generator=generator, dtype=dtype)
    if draw(st.booleans()):
        target = target.round()
    valid = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    return logits, target, valid


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15, deadline=None)
@given(batch=batches())
def test_agrees_with_slow_formula(name, batch):
    logits, target, valid = batch
    value = LOSSES[name](logits, target, valid)
    expected = slow_loss(name, *(x[:, 0].numpy() for x in batch))
    torch.testing.assert_close(value.item(), float(expected), **BY_DTYPE[torch.float64]._asdict())


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in BALANCED_LOSSES])
@settings(max_examples=15, deadline=None)
@given(batch=batches(), weights=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)))
def test_weighted_classes_agree_with_slow_formula(name, batch, weights):
    logits, target, valid = batch
    value = LOSSES[name](logits, target, valid, torch.tensor(weights, dtype=torch.float64))
    expected = slow_loss(name, *(x[:, 0].numpy() for x in batch), weights)
    torch.testing.assert_close(value.item(), float(expected), **BY_DTYPE[torch.float64]._asdict())


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15, deadline=None)
@given(batch=batches(torch.float32), junk=st.sampled_from([1e6, -7.0, 255.0, float("inf"), float("nan")]))
def test_ignored_pixels_contribute_exactly_nothing(name, batch, junk):
    logits, target, valid = batch
    value, gradient = value_and_gradient(LOSSES[name], logits, target, valid)
    other_value, other_gradient = value_and_gradient(
        LOSSES[name], logits.masked_fill(~valid, junk), target.masked_fill(~valid, junk), valid
    )
    assert torch.equal(value, other_value)
    assert torch.equal(gradient, other_gradient)
    assert torch.isfinite(gradient).all()
    assert (gradient[~valid] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_image_without_valid_pixels_changes_nothing(name):
    logits, target = VECTORS["batch2/logits"], VECTORS["batch2/target"]
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[1] = False
    value, gradient = value_and_gradient(LOSSES[name], logits, target, valid)
    alone, gradient_alone = value_and_gradient(LOSSES[name], logits[:1], target[:1])
    torch.testing.assert_close(value, alone, **BY_DTYPE[torch.float32]._asdict())
    torch.testing.assert_close(gradient[:1], gradient_alone, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_everything_ignored_is_zero_with_zero_gradient(name):
    logits, target = VECTORS["blob/logits"], VECTORS["blob/target"]
    value, gradient = value_and_gradient(LOSSES[name], logits, target, torch.zeros_like(target, dtype=torch.bool))
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_large_logits_stay_finite(name, size):
    target = VECTORS["blob/target"]
    for logits in (size * (2 * target - 1), size * (1 - 2 * target), torch.full_like(target, size)):
        value, gradient = value_and_gradient(LOSSES[name], logits, target)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_right_answer_costs_nothing_and_wrong_one_more_than_none(name):
    target = VECTORS["blob/target"]
    right, undecided, wrong = (LOSSES[name](20 * sign * (2 * target - 1), target) for sign in (1, 0, -1))
    assert right < 1e-3 < undecided < wrong


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(name, dtype):
    logits, target = VECTORS["blob/logits"].to(dtype), VECTORS["blob/target"]
    value, gradient = value_and_gradient(LOSSES[name], logits, target.to(dtype))
    full_value, full_gradient = value_and_gradient(LOSSES[name], logits.float(), target.to(dtype).float())
    assert value.dtype == torch.float32
    assert torch.equal(value, full_value)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, full_gradient.to(dtype))


@pytest.mark.parametrize("name", LOSSES)
def test_shape_without_channel_gives_the_same(name):
    logits, target = VECTORS["batch2/logits"], VECTORS["batch2/target"]
    assert torch.equal(LOSSES[name](logits, target), LOSSES[name](logits[:, 0], target[:, 0]))


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_shapes_are_refused(name):
    logits = torch.zeros(2, 1, 4, 5)
    with pytest.raises(ValueError, match=r"target has shape \(2, 4, 5\), logits \(2, 1, 4, 5\)"):
        LOSSES[name](logits, torch.zeros(2, 4, 5))
    with pytest.raises(ValueError, match=r"not \(2, 3, 4, 5\)"):
        LOSSES[name](torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"valid must be boolean .* not torch.float32 \(2, 1, 4, 5\)"):
        LOSSES[name](logits, logits, torch.ones_like(logits))
