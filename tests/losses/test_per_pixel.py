import pytest
import torch
import torch.nn.functional as F

from convlora.losses import per_pixel_loss


def slow(logits, labels, class_weights=None):
    """Cross-entropy over all pixels that count, and Dice class by class."""
    large = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    entropy = F.cross_entropy(large, labels, weight=class_weights, ignore_index=255)
    known = labels != 255
    probabilities = large.softmax(dim=1).permute(0, 2, 3, 1)[known]
    terms = []
    for kind in labels[known].unique():
        right = labels[known] == kind
        overlap = (probabilities[:, kind] * right).sum()
        terms.append(1 - (2 * overlap + 1) / (probabilities[:, kind].sum() + right.sum() + 1))
    return entropy + torch.stack(terms).mean()


@pytest.fixture
def case():
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 31, 22))  # of five classes the last does not occur
    labels[0, 5:9] = 255
    return torch.randn(2, 5, 8, 6, requires_grad=True), labels


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0, 1.0]])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_values_and_gradients_are_those_of_the_slow_form(case, weights, rows, monkeypatch):
    logits, labels = case
    weights = None if weights is None else torch.tensor(weights)
    expected = slow(logits, labels, weights)
    (gradient,) = torch.autograd.grad(expected, logits)
    monkeypatch.setattr("convlora.enlarge.BAND_VALUES", 5 * 22 * rows)
    loss = per_pixel_loss(logits, labels, class_weights=weights)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], gradient, atol=1e-7, rtol=1e-5)


def test_ignored_pixels_change_nothing(case):
    _, labels = case
    large = torch.randn(2, 5, 31, 22, requires_grad=True)
    loss = per_pixel_loss(large, labels)
    loss.backward()
    assert large.grad[0, :, 5:9].abs().max() == 0
    nothing = per_pixel_loss(large, torch.full_like(labels, 255))
    assert nothing == 0
    assert torch.autograd.grad(nothing, large)[0].abs().max() == 0
