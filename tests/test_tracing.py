"""What exporters get to see computes the same numbers, element by element."""

import pytest
import torch
from torch import nn

from convlora.methods.conv_lora.gate import noisy_top_k
from convlora.methods.conv_lora.resampling import tables_in_use
from convlora.methods.side_networks.networks import high_frequencies
from convlora.models.windows import _join_plainly, cut_windows
from tests.helpers.models import tiny_segmenter


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return self.model(pixel_values=pixels).logits


def exported(function, *inputs):
    """The function as `torch.export` writes it down, for any number of samples."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = (tuple({0: batch} for _ in inputs),)
    return torch.export.export(Call(function), inputs, dynamic_shapes=shapes, strict=False).module()


@pytest.mark.parametrize("top_k", [1, 3])
def test_equal_gates_go_to_the_same_experts(top_k):
    weight = torch.tensor([[0.0, 1], [1, 0], [0, 1], [1, 0], [0.5, 0.5]])
    pooled = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1], [-1, 2], [2, -1], [-1, -1]])

    def choose(pooled):
        gating = noisy_top_k(pooled, weight, weight, top_k=top_k, scaling="softmax")
        return gating.indices, gating.weights

    program = exported(choose, torch.randn(2, 2))
    for some in (pooled, pooled[:1]):
        for found, expected in zip(program(some), choose(some)):
            assert torch.equal(found, expected)
    assert choose(pooled)[0][0].tolist() == list(range(top_k))


@pytest.mark.parametrize("window", [3, 4, 14])
def test_windows(window):
    program = exported(lambda maps: cut_windows(maps, window)[0], torch.randn(2, 7, 8, 3))
    maps = torch.randn(5, 7, 8, 3)
    windows, _ = cut_windows(maps, window)
    assert torch.equal(program(maps), windows)
    assert torch.equal(_join_plainly(windows, window, (7, 8)), maps)


@pytest.mark.parametrize("size", [(16, 20), (15, 33)])
def test_high_frequencies(size):
    images = torch.randn(2, 3, *size)
    torch.testing.assert_close(exported(high_frequencies, images)(images), high_frequencies(images), rtol=0, atol=2e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_traced_model_and_what_an_export_leaves_behind():
    """Tables and gates of the model are still numbers afterwards, and experts are not settled on."""
    from convlora.models.build import adapt

    model = adapt(tiny_segmenter("conv-lora", (64, 48), blocks=2), "conv-lora", {}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    whole = Logits(model)
    images, others = torch.randn(2, 3, 64, 48), 3 * torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        program = exported(whole, images)
        assert all(type(table) is torch.Tensor for tables in tables_in_use() for table in tables)
        traced = torch.jit.trace(whole, images, check_trace=False)
        expected = whole(others)
        torch.testing.assert_close(program(others), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(traced(others), expected, rtol=1e-4, atol=1e-4)
