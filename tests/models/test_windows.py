import copy

import pytest
import torch

from convlora.models import SamForSemanticSegmentation
from convlora.models.attention import set_attention
from convlora.models.windows import cut_windows, join_windows
from tests.helpers.count_operations import CountOperations
from tests.helpers.models import tiny_sam

SIZES = [(4, 4), (6, 6), (7, 5), (3, 8), (2, 2), (1, 7), (64, 64)]


@pytest.fixture
def stock():
    return SamForSemanticSegmentation.from_sam(tiny_sam(), attention="eager").vision_encoder.layers[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [3, 14])
def test_equals_transformers_in_values_and_gradients(stock, size, window):
    x = torch.randn(2, *size, 5, requires_grad=True)
    windows, padded = stock.window_partition(x, window)
    own, own_padded = cut_windows(x, window)
    assert own_padded == padded
    assert torch.equal(own, windows)
    probe = torch.randn_like(windows)
    assert torch.equal(*(torch.autograd.grad((w * probe).sum(), x)[0] for w in (own, windows)))

    pieces = torch.randn_like(windows).requires_grad_()
    joined = stock.window_unpartition(pieces, window, padded, size)
    own_joined = join_windows(pieces, window, padded, size)
    assert torch.equal(own_joined, joined)
    probe = torch.randn_like(joined)
    assert torch.equal(*(torch.autograd.grad((m * probe).sum(), pieces)[0] for m in (own_joined, joined)))


def test_every_number_is_copied_once():
    x = torch.randn(1, 7, 5, 4)
    with CountOperations() as counted:
        windows, padded = cut_windows(x, 3)
        join_windows(windows, 3, padded, (7, 5))
    assert {name: counted.names.count(name) for name in set(counted.names)} == {"new_empty": 2, "copy_": 8, "zero_": 2}


def test_windows_that_are_not_contiguous():
    windows = torch.randn(4, 3, 3, 2).transpose(1, 2)
    assert torch.equal(join_windows(windows, 3, (6, 6), (5, 4)), join_windows(windows.contiguous(), 3, (6, 6), (5, 4)))


def test_they_come_and_go_with_the_form_of_the_attention():
    encoder = SamForSemanticSegmentation.from_sam(tiny_sam(), attention="vectors").vision_encoder
    assert all(layer.window_partition is cut_windows for layer in encoder.layers)
    assert all(layer.window_partition is cut_windows for layer in copy.deepcopy(encoder).layers)
    set_attention(encoder, "eager")
    assert not any(layer.window_partition is cut_windows for layer in encoder.layers)
