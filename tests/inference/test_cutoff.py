import numpy as np
import pytest
import torch

from convlora.inference import cutoff
from convlora.inference.cutoff import is_above, least_logit


@pytest.mark.parametrize("threshold", [0.5, 0.001, 0.3, 0.77, 0.999])
def test_it_equals_comparing_the_sigmoid(threshold):
    """Also for the numbers next to the border."""
    device = torch.device("cpu")
    centre = least_logit(threshold, device) or float(torch.logit(torch.tensor(threshold)))
    place = int(cutoff._place_of(np.float32(centre)))
    near = torch.from_numpy(cutoff._number_at(np.arange(place - 8192, place + 8192)))
    logits = torch.cat([near, torch.randn(16384, generator=torch.Generator().manual_seed(0)) * 5, torch.zeros(64)])
    assert torch.equal(is_above(logits, threshold), torch.sigmoid(logits) > threshold)
    assert torch.equal(is_above(logits.double(), threshold), torch.sigmoid(logits.double()) > threshold)


def test_a_half_needs_no_sigmoid():
    least = least_logit(0.5, torch.device("cpu"))
    assert least is not None
    assert 0 < least < 1e-6


def test_a_border_that_is_none_is_noticed(monkeypatch):
    """A sigmoid that is off by a bit here and there is computed for every pixel."""
    sigmoid = torch.sigmoid

    def rough(logits):
        return sigmoid(logits) - (logits.view(torch.int32) % 3 == 0) * 2e-7

    monkeypatch.setattr(torch, "sigmoid", rough)
    least_logit.cache_clear()
    assert least_logit(0.3, torch.device("cpu")) is None
    least_logit.cache_clear()
