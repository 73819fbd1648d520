"""The set loss against stored values of transformers' own, point by point, and with ignored pixels."""

import itertools

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import sample_point

from convlora.losses import mask_classification as module
from convlora.losses.mask_classification import (
    SetLossSettings,
    mask_losses,
    match,
    random_points,
    set_loss,
    shares_at,
)
from tests.helpers.reference import relative_difference, tensors
from tests.helpers.tolerances import REFERENCE

SETTINGS = SetLossSettings(points=128)


def stored():
    return tensors("set_loss")


def stored_labels():
    """The masks of each image as one label map; they do not overlap."""
    maps = []
    for image in range(2):
        masks, kinds = stored()[f"mask_labels.{image}"], stored()[f"class_labels.{image}"]
        labels = torch.full(masks.shape[1:], -1)
        for mask, kind in zip(masks, kinds):
            labels[mask > 0.5] = kind
        maps.append(labels)
    return torch.stack(maps)


@pytest.mark.parametrize("image", [0, 1])
def test_the_assignment_is_that_of_transformers(image):
    data = stored()
    tokens, chosen = match(
        data["mask_logits"][image], data["class_logits"][image], stored_labels()[image],
        data[f"class_labels.{image}"], data[f"match_points.{image}"], SETTINGS,
    )  # fmt: skip
    assert tokens.tolist() == data[f"matched_query.{image}"].tolist()
    assert chosen.tolist() == data[f"matched_label.{image}"].tolist()


def recorded_points(monkeypatch):
    """Makes the loss draw the recorded points: of the assignments, then candidates and extra ones, image by image."""
    data = stored()
    first = len(data["matched_query.0"])
    queue = [data["match_points.0"], data["match_points.1"]]
    for masks in (slice(0, first), slice(first, None)):
        queue += [data["candidate_points"][masks], data["extra_points"][masks]]
    monkeypatch.setattr(module, "random_points", lambda *_: queue.pop(0))


@pytest.mark.parametrize(("weights", "name"), [((1, 1, 1), "sum_unweighted"), ((10, 5, 5), "sum_weighted_10_5_5")])
def test_value_is_that_of_transformers(monkeypatch, weights, name):
    data = stored()
    recorded_points(monkeypatch)
    by_class, by_mask, by_dice = weights
    # The stored assignment used other weights than the sum.
    chosen = SetLossSettings(class_weight=by_class, mask_weight=by_mask, dice_weight=by_dice, points=128)
    monkeypatch.setattr(module, "match", lambda *arguments: match(*arguments[:-1], SETTINGS))
    value = sum_of_stored(data["mask_logits"], data["class_logits"], chosen)
    assert float(value) == pytest.approx(float(data[name]), rel=1e-6)


def sum_of_stored(mask_logits, class_logits, settings):
    """The set loss with the stored classes; other pixels are of none."""
    order = iter([stored()["class_labels.0"], stored()["class_labels.1"]])
    original = module._kinds
    module._kinds = lambda *_: next(order)
    try:
        return set_loss(mask_logits, class_logits, stored_labels(), ignore_index=255, settings=settings)
    finally:
        module._kinds = original


def test_gradients_are_those_of_transformers(monkeypatch):
    data = stored()
    recorded_points(monkeypatch)
    monkeypatch.setattr(module, "match", lambda *arguments: match(*arguments[:-1], SETTINGS))
    masks = data["mask_logits"].clone().requires_grad_()
    classes = data["class_logits"].clone().requires_grad_()
    settings = SetLossSettings(class_weight=1, mask_weight=1, dice_weight=1, points=128)
    sum_of_stored(masks, classes, settings).backward()
    assert relative_difference(masks.grad, data["grad.mask_logits"], floor=1e-6) < REFERENCE
    assert relative_difference(classes.grad, data["grad.class_logits"], floor=1e-6) < REFERENCE


def test_the_assignment_is_the_cheapest_of_all():
    torch.manual_seed(1)
    masks, classes = torch.randn(4, 8, 8), torch.randn(4, 4)
    labels = torch.randint(0, 3, (8, 8))
    kinds = torch.arange(3)
    points = torch.rand(1, 50, 2)
    tokens, chosen = match(masks, classes, labels, kinds, points, SETTINGS)

    def cost(pairs):
        total = 0.0
        for token, target in pairs:
            predicted = sample_point(masks[token][None, None], points, align_corners=False)[:, 0]
            by_mask, by_dice = mask_losses(predicted, shares_at(labels, kinds[target, None], points))
            total += 5 * by_mask + 5 * by_dice - 2 * classes[token].softmax(-1)[kinds[target]]
        return float(total)

    everything = [list(zip(choice, range(3))) for choice in itertools.permutations(range(4), 3)]
    assert cost(list(zip(tokens, chosen))) == pytest.approx(min(map(cost, everything)), rel=1e-5)


def test_ignored_pixels_change_nothing_and_get_no_gradient():
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 32, 32))
    labels[:, :, 16:] = 255
    masks = torch.randn(2, 5, 32, 32, requires_grad=True)
    classes = torch.randn(2, 5, 4)

    def value():
        torch.manual_seed(3)
        return set_loss(masks, classes, labels, settings=SetLossSettings(points=64))

    first = value()
    first.backward()
    assert masks.grad[..., 16:].abs().max() == 0
    assert masks.grad[..., :16].abs().max() > 0
    with torch.no_grad():
        masks[..., 16:] = 1e4
    assert torch.equal(value(), first)


def test_an_image_that_is_all_ignored_teaches_nothing():
    classes, masks = torch.randn(1, 5, 4, requires_grad=True), torch.randn(1, 5, 8, 8, requires_grad=True)
    loss = set_loss(masks, classes, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss == 0
    assert classes.grad.abs().max() == 0
    assert masks.grad.abs().max() == 0


def test_more_classes_than_tokens_are_refused():
    with pytest.raises(ValueError, match="raise num_mask_tokens"):
        set_loss(torch.randn(1, 2, 8, 8), torch.randn(1, 2, 5), torch.arange(64).reshape(1, 8, 8) % 4)


def test_points_avoid_ignored_pixels_and_are_even_over_the_others():
    valid = torch.zeros(4, 6, dtype=torch.bool)
    valid[1:3, 2:4] = True
    points = random_points(1, 4000, valid)[0]
    column, row = (points[:, 0] * 6).long(), (points[:, 1] * 4).long()
    assert valid[row, column].all()
    counts = torch.bincount(row * 6 + column, minlength=24).view(4, 6)[valid]
    assert counts.min() > 850


def test_rare_classes_can_weigh_more():
    torch.manual_seed(0)
    masks, classes = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4)
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[0, 0] = 2
    torch.manual_seed(0)
    plain = set_loss(masks, classes, labels)
    torch.manual_seed(0)
    weighted = set_loss(masks, classes, labels, class_weights=torch.tensor([1.0, 1.0, 9.0]))
    assert weighted != plain


@pytest.mark.parametrize("shared", [True, False])
def test_masks_are_read_as_if_they_were_made(shared):
    torch.manual_seed(0)
    labels, kinds = torch.randint(0, 4, (9, 14)), torch.tensor([3, 0, 2])
    points = torch.rand(1 if shared else 3, 200, 2)
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.999, 0.001]])  # half of them lies outside
    masks = (labels == kinds[:, None, None]).float()
    expected = sample_point(masks[:, None], points.expand(3, -1, -1), align_corners=False)[:, 0]
    torch.testing.assert_close(shares_at(labels, kinds, points), expected, atol=1e-5, rtol=1e-5)


def test_no_more_points_than_cells(monkeypatch):
    drawn = []
    monkeypatch.setattr(module, "random_points", lambda *given: drawn.append(given[1]) or random_points(*given))
    set_loss(torch.randn(1, 4, 6, 8), torch.randn(1, 4, 4), torch.randint(0, 3, (1, 24, 32)))
    assert drawn == [48, 144, 12]
