"""Convolutions beside and within frozen modules."""

import pytest
import torch
from torch import nn

from convlora.methods.convolution_adapters import ConvolutionAdapterConfig
from convlora.methods.convolution_adapters.layer import Bypass, ConvolutionAdapterLayer, Depthwise
from convlora.methods.registry import check_method
from convlora.models.build import adapt
from tests.helpers.models import tiny_segmenter

MAPS = (2, 3, 5, 4)  # oblong


def moved(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return module.double()


def neighbours(maps):
    """By how far a cell is moved, what is there; zero outside."""
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            there = torch.zeros_like(maps)
            for row in range(maps.shape[1]):
                for column in range(maps.shape[2]):
                    if 0 <= row + down < maps.shape[1] and 0 <= column + right < maps.shape[2]:
                        there[:, row, column] = maps[:, row + down, column + right]
            yield down, right, there


def gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def test_a_bypass_is_as_its_formula_says():
    one, maps = moved(Bypass(4, 3, 0.5)), torch.randn(MAPS, dtype=torch.float64)
    inside = gelu(maps @ one.down.weight.T + one.down.bias)
    kernel = one.middle.weight
    seen = sum(near @ kernel[:, :, 1 + i, 1 + j].T for i, j, near in neighbours(inside)) + one.middle.bias
    torch.testing.assert_close(one(maps), 0.5 * (gelu(seen) @ one.up.weight.T + one.up.bias))


def test_a_depthwise_convolution_is_as_its_formula_says():
    linear, maps = nn.Linear(4, 2).double(), torch.randn(MAPS, dtype=torch.float64)
    layer = ConvolutionAdapterLayer(linear, "default", ConvolutionAdapterConfig(kind="depthwise"))
    assert torch.equal(layer(maps), linear(maps))
    one = moved(layer.conv_adapters["default"])
    assert isinstance(one, Depthwise)
    kernel, bias = one.convolution.weight[:, 0], one.convolution.bias
    within = maps + bias + sum(near * kernel[:, 1 + i, 1 + j] for i, j, near in neighbours(maps))
    torch.testing.assert_close(layer(maps), within @ linear.weight.T + linear.bias)


@pytest.mark.parametrize(("method", "places"), [("convpass", ("attn", "mlp")), ("depthwise-adapter", ("mlp.lin2",))])
def test_they_stand_in_every_block(method, places):
    model = adapt(tiny_segmenter(method), method, {}).base_model.model.vision_encoder
    found = {name for name, module in model.named_modules() if isinstance(module, ConvolutionAdapterLayer)}
    assert found == {f"layers.{block}.{place}" for block in range(4) for place in places}


def test_what_does_not_fit_is_refused():
    layer = ConvolutionAdapterLayer(nn.Linear(4, 4), "default", ConvolutionAdapterConfig(kind="depthwise"))
    with pytest.raises(ValueError, match="feature maps"):
        layer(torch.randn(2, 15, 4))
    with pytest.raises(ValueError, match="cannot be merged"):
        layer.merge()
    with pytest.raises(ValueError, match="not a GELU"):
        ConvolutionAdapterLayer(nn.GELU(), "default", ConvolutionAdapterConfig())
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale"):
            check_method("convpass", {"scale": scale})
