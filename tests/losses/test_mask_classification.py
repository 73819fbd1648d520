"""The set loss against stored values of transformers' own, point by point, and with ignored pixels."""

import itertools

import numpy as np
import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import sample_point

from convlora.losses import mask_classification as module
from convlora.losses.mask_classification import (
    SetLossSettings,
    class_shares_at,
    classes_in,
    count_valid,
    mask_losses,
    match,
    match_costs,
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


def stored_costs(settings=SETTINGS):
    data, labels = stored(), stored_labels()
    points = torch.cat([data["match_points.0"], data["match_points.1"]])
    shares = class_shares_at(labels.masked_fill(labels < 0, 4), 4, points)
    return match_costs(data["mask_logits"], data["class_logits"], shares, points, settings)


def test_the_assignment_is_that_of_transformers():
    labels = stored_labels()
    kinds = match(stored_costs().numpy(), classes_in(labels.masked_fill(labels < 0, 4), 4).numpy())
    for image, own in enumerate(kinds):
        tokens = np.flatnonzero(own >= 0)
        assert tokens.tolist() == stored()[f"matched_query.{image}"].tolist()
        chosen = stored()[f"class_labels.{image}"][stored()[f"matched_label.{image}"]]
        assert own[tokens].tolist() == chosen.tolist()


def set_loss_of_transformers(monkeypatch, mask_logits, class_logits, settings):
    """The set loss at the recorded points: those of the matches, then candidates and extra ones of the masks.

    The stored matches used other weights than the sum. Pixels that are of no class are ignored, but have points.
    """
    data = stored()
    queue = [
        torch.cat([data["match_points.0"], data["match_points.1"]]),
        data["candidate_points"],
        data["extra_points"],
    ]
    monkeypatch.setattr(module, "random_points", lambda *_: queue.pop(0))
    monkeypatch.setattr(module, "match_costs", lambda *arguments: match_costs(*arguments[:-1], SETTINGS))
    return set_loss(mask_logits, class_logits, stored_labels(), ignore_index=-1, settings=settings)


@pytest.mark.parametrize(("weights", "name"), [((1, 1, 1), "sum_unweighted"), ((10, 5, 5), "sum_weighted_10_5_5")])
def test_value_is_that_of_transformers(monkeypatch, weights, name):
    data = stored()
    by_class, by_mask, by_dice = weights
    settings = SetLossSettings(class_weight=by_class, mask_weight=by_mask, dice_weight=by_dice, points=128)
    value = set_loss_of_transformers(monkeypatch, data["mask_logits"], data["class_logits"], settings)
    assert float(value) == pytest.approx(float(data[name]), rel=1e-6)


def test_gradients_are_those_of_transformers(monkeypatch):
    data = stored()
    masks = data["mask_logits"].clone().requires_grad_()
    classes = data["class_logits"].clone().requires_grad_()
    settings = SetLossSettings(class_weight=1, mask_weight=1, dice_weight=1, points=128)
    set_loss_of_transformers(monkeypatch, masks, classes, settings).backward()
    assert relative_difference(masks.grad, data["grad.mask_logits"], floor=1e-6) < REFERENCE
    assert relative_difference(classes.grad, data["grad.class_logits"], floor=1e-6) < REFERENCE


def test_the_assignment_is_the_cheapest_of_all():
    """Of an image that lacks one of four classes, beside an image that has others."""
    torch.manual_seed(1)
    masks, classes = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 5)
    labels = torch.randint(0, 3, (2, 8, 8))
    labels[1] += 1
    points = torch.rand(2, 50, 2)
    costs = match_costs(masks, classes, class_shares_at(labels, 4, points), points, SETTINGS)
    found = match(costs.numpy(), classes_in(labels, 4).numpy())

    def cost(image, kinds):
        total = 0.0
        for token, kind in enumerate(kinds):
            if kind >= 0:
                predicted = sample_point(masks[image, token][None, None], points[image, None], align_corners=False)[
                    :, 0
                ]
                place = torch.tensor([image]), torch.tensor([kind])
                by_mask, by_dice = mask_losses(predicted, shares_at(labels, *place, points[image, None]))
                total += 5 * by_mask + 5 * by_dice - 2 * classes[image, token].softmax(-1)[kind]
        return float(total)

    for image, kinds in enumerate(([0, 1, 2], [1, 2, 3])):
        everything = itertools.permutations([*kinds, -1])
        assert sorted(found[image].tolist()) == [-1, *kinds]
        assert cost(image, found[image]) == pytest.approx(min(cost(image, one) for one in everything), rel=1e-5)


def test_an_image_without_known_pixels_changes_nothing_for_the_others():
    torch.manual_seed(0)
    masks, classes = torch.randn(2, 5, 8, 8), torch.randn(2, 5, 4)
    labels = torch.randint(0, 3, (2, 16, 16))
    labels[1] = 255
    values = []
    for images in (slice(0, 1), slice(0, 2)):
        drawn = torch.Generator().manual_seed(1)

        def points_of(images, points, known, drawn=drawn):
            return torch.rand(1, points, 2, generator=drawn).expand(len(images), -1, -1)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "random_points", points_of)
            values.append(set_loss(masks[images], classes[images], labels[images]))
    torch.testing.assert_close(values[0], values[1])


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
    valid = torch.ones(4, 4, 6, dtype=torch.bool)
    valid[1], valid[3] = False, False
    valid[1, 1:3, 2:4] = True
    valid[3, 3, 5] = True
    drawn = random_points(torch.tensor([1, 3, 1, 0]), 4000, count_valid(valid))
    assert drawn.shape == (4, 4000, 2)
    for points, image, least in zip(drawn, (1, 3, 1), (850, 4000, 850)):
        column, row = (points[:, 0] * 6).long(), (points[:, 1] * 4).long()
        assert valid[image, row, column].all()
        counts = torch.bincount(row * 6 + column, minlength=24).view(4, 6)[valid[image]]
        assert counts.min() >= least
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[3].unique(dim=0).shape[0] > 3900, "without ignored pixels points need not be on their centres"
    assert drawn[3].min() < 0.001
    assert drawn[3].max() > 0.999


def test_points_of_an_image_that_is_all_ignored_are_anywhere():
    points = random_points(torch.tensor([1]), 1000, count_valid(torch.zeros(2, 3, 5, dtype=torch.bool)))
    assert 0 <= points.min() < 0.01
    assert 0.99 < points.max() <= 1


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


def test_masks_are_read_as_if_they_were_made():
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 9, 14))
    points = torch.rand(2, 200, 2)
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.999, 0.001]])  # half of them lies outside
    masks = (labels[:, None] == torch.arange(3)[:, None, None]).float()  # the fourth does not count
    expected = sample_point(masks, points, align_corners=False)
    shares = class_shares_at(labels, 3, points)
    torch.testing.assert_close(shares, expected, atol=1e-5, rtol=1e-5)
    images, kinds = torch.tensor([1, 0, 1]), torch.tensor([2, 0, 1])
    own = shares_at(labels, images, kinds, points[images])
    torch.testing.assert_close(own, expected[images, kinds], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_other_integers(dtype):
    torch.manual_seed(0)
    masks, classes, labels = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4), torch.randint(0, 3, (1, 16, 16))
    labels[0, :2] = 255
    values = []
    for own in (labels, labels.to(dtype)):
        torch.manual_seed(1)
        values.append(set_loss(masks, classes, own))
    assert values[0] == values[1]


def test_no_more_points_than_cells(monkeypatch):
    drawn = []
    monkeypatch.setattr(module, "random_points", lambda *given: drawn.append(given[1]) or random_points(*given))
    set_loss(torch.randn(1, 4, 6, 8), torch.randn(1, 4, 4), torch.randint(0, 3, (1, 24, 32)))
    assert drawn == [48, 144, 12]
