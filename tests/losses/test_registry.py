import doctest
import re

import pytest
import torch

from convlora.losses import LOSSES, registry, segmentation_loss


def test_names_are_the_documented_ones():
    assert set(LOSSES) == {"structure", "structure-mean-bce", "balanced-bce", "bce-dice"}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ignore_index", [255, -1])
def test_labels_become_target_and_mask(name, ignore_index):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 6, 7, generator=generator)
    classes = torch.randint(0, 2, (2, 6, 7), generator=generator)
    ignored = torch.rand(2, 6, 7, generator=generator) < 0.3
    labels = classes.masked_fill(ignored, ignore_index)
    expected = LOSSES[name](logits, classes[:, None].float(), ~ignored[:, None])
    assert torch.equal(segmentation_loss(name, logits, labels, ignore_index), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_all_ignored_is_zero_with_zero_gradient(name):
    logits = torch.randn(2, 1, 6, 7, requires_grad=True)
    loss = segmentation_loss(name, logits, torch.full((2, 6, 7), 255), ignore_index=255)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=re.escape("'dice'; choose one of " + ", ".join(LOSSES))):
        segmentation_loss("dice", torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long), 255)


def test_wrong_shapes_and_ignore_index_are_refused():
    with pytest.raises(ValueError, match=re.escape("not (1, 2, 3, 3) and (1, 3, 3)")):
        segmentation_loss("structure", torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long), 255)
    with pytest.raises(ValueError, match="ignore_index must be neither 0 nor 1"):
        segmentation_loss("structure", torch.zeros(1, 1, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long), 0)


def test_example_in_the_docstring():
    result = doctest.testmod(registry)
    assert result.attempted
    assert not result.failed


def test_weights_reach_the_loss_and_are_refused_where_they_would_cancel():
    labels = torch.tensor([[[0, 1, 255]]])
    logits = torch.tensor([[[[1.0, -2.0, float("nan")]]]])
    weights = torch.tensor([0.5, 4.0])
    weighted = segmentation_loss("bce-dice", logits, labels, class_weights=weights)
    assert weighted > segmentation_loss("bce-dice", logits, labels), "the worse answer is that of the foreground"
    with pytest.raises(ValueError, match="'balanced-bce' weighs both classes alike already"):
        segmentation_loss("balanced-bce", logits, labels, class_weights=weights)
