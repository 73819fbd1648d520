"""Small adapters for a frozen SAM encoder that are compared with LoRA of as many weights by `adapters.py`.

All start at zero: at first the encoder gives its own answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import nn

from convlora.models import SegmentationModel
from convlora.models.build import adapt

SCALE = 32.0  # alpha over rank, at every rank: that of `lora-alpha96`
OF_CONVOLUTIONS = 4.0  # what those of full width are multiplied by, so that they move as fast
QKV = r"layers\.\d+\.attn\.qkv"
REST = r"layers\.\d+\.(attn\.proj|mlp\.lin1|mlp\.lin2)"
GLOBAL = r"layers\.[135]\.attn\.qkv"
PATCHES = r"patch_embed\.projection"
Place = Callable[[nn.Module], None]


class Adapted(nn.Module):
    """A frozen layer, and what changes its output.

    Args:
        base: The layer.
        adapter: Takes the input and the layer, and gives the output.
    """

    def __init__(self, base: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter
        self.out_features = getattr(base, "out_features", None)  # which the attention asks for

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The changed output of the layer."""
        output: torch.Tensor = self.adapter(x, self.base)
        return output


class LowRank(nn.Module):
    """LoRA beside a linear layer, with or without something in its bottleneck.

    Args:
        layer: A linear layer.
        rank: Channels of the bottleneck.
        mixer: From the bottleneck `(B, H, W, r)` to what is added to it.
    """

    def __init__(self, layer: nn.Linear, rank: int, mixer: nn.Module | None = None) -> None:
        super().__init__()
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        self.mixer = mixer
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        """`W x + s B (z + M(z))` with `z = A x`."""
        z = self.down(x)
        output: torch.Tensor = layer(x) + SCALE * self.up(z if self.mixer is None else z + self.mixer(z))
        return output


class LowRankConvolution(nn.Module):
    """LoRA beside a convolution: one of the same kernel to a few channels, then one of 1 x 1.

    Args:
        layer: A convolution.
        rank: Channels in between.
    """

    def __init__(self, layer: nn.Conv2d, rank: int) -> None:
        super().__init__()
        like: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "bias": False}
        self.down = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, **like)
        self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        """`W * x + s B (A * x)`."""
        output: torch.Tensor = layer(x) + SCALE * self.up(self.down(x))
        return output


class WideExperts(nn.Module):
    """Convolutions of 3 x 3 cells with dilation, which see 3, 5 and 9 cells, mixed by a gate that the task teaches.

    Args:
        rank: Channels.
        gate: `"map"`: a soft-max over the experts from the mean of the map. `"top1"`: the best one alone, times its
            soft-max. `"cell"`: a soft-max for each cell by itself.
        dilations: One for each expert.
    """

    def __init__(self, rank: int, gate: str, dilations: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        self.kind = gate
        self.experts = nn.ModuleList(nn.Conv2d(rank, rank, 3, padding=d, dilation=d) for d in dilations)
        self.gate = nn.Linear(rank, len(dilations), bias=False)
        nn.init.zeros_(self.gate.weight)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """`(B, H, W, r)` to the same."""
        seen = self.gate(z if self.kind == "cell" else z.mean(dim=(1, 2), keepdim=True)).softmax(dim=-1)
        if self.kind == "top1":
            seen = seen * F.one_hot(seen.argmax(dim=-1), seen.shape[-1])
        maps = z.permute(0, 3, 1, 2)
        answers = torch.stack([F.gelu(expert(maps)).permute(0, 2, 3, 1) for expert in self.experts], dim=-1)
        return (answers * seen.unsqueeze(-2)).sum(dim=-1)


class Depthwise(nn.Module):
    """A depthwise convolution of 3 x 3 cells over all channels that go into a linear layer.

    Args:
        layer: The layer.
        after: Make the convolution after the layer instead, on this many of its last output channels.
    """

    def __init__(self, layer: nn.Linear, after: int = 0) -> None:
        super().__init__()
        width = after or layer.in_features
        self.after = after
        self.convolution = nn.Conv2d(width, width, 3, padding=1, groups=width)
        for values in self.convolution.parameters():
            nn.init.zeros_(values)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        convolved: torch.Tensor = self.convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return OF_CONVOLUTIONS * convolved

    def forward(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        """`W (x + C x)`, or `W x + C W x` for the last channels."""
        if not self.after:
            output: torch.Tensor = layer(x + self._convolve(x))
            return output
        y = layer(x)
        kept, changed = y[..., : -self.after], y[..., -self.after :]
        return torch.cat([kept, changed + self._convolve(changed)], dim=-1)


def low_rank(pattern: str, rank: int, mixer: Callable[[], nn.Module] | None = None) -> Place:
    """Puts LoRA beside all layers whose names match."""

    def place(encoder: nn.Module) -> None:
        for layer in _replaced(encoder, pattern):
            if isinstance(layer.base, nn.Conv2d):
                layer.adapter = LowRankConvolution(layer.base, rank)
            else:
                layer.adapter = LowRank(layer.base, rank, None if mixer is None else mixer())

    return place


def depthwise(pattern: str, after: int = 0) -> Place:
    """Puts depthwise convolutions before all layers whose names match, or behind a part of their output."""

    def place(encoder: nn.Module) -> None:
        for layer in _replaced(encoder, pattern):
            layer.adapter = Depthwise(layer.base, after)

    return place


def shared_experts(rank: int) -> Place:
    """LoRA with the same wide experts in the bottleneck of every layer."""

    def place(encoder: nn.Module) -> None:
        one = WideExperts(rank, "cell")
        low_rank(QKV, rank, lambda: one)(encoder)

    return place


def _replaced(encoder: nn.Module, pattern: str) -> Iterator[Any]:
    """Wraps the layers whose names match, for the caller to give each an adapter."""
    names = [name for name, _ in encoder.named_modules() if re.fullmatch(pattern, name)]
    if not names:
        raise LookupError(f"no layer is called {pattern}")
    for name in names:
        above, _, own = name.rpartition(".")
        parent = encoder.get_submodule(above)
        wrapped = Adapted(getattr(parent, own), nn.Identity())
        yield wrapped
        setattr(parent, own, wrapped)


@dataclass(frozen=True)
class Variant:
    """A way of adapting the encoder.

    Attributes:
        what: What it is.
        places: What puts its adapters in.
        method: A method of the library instead.
        options: Its options.
    """

    what: str
    places: tuple[Place, ...] = ()
    method: str = "decoder"
    options: Mapping[str, Any] = field(default_factory=dict)

    def put_into(self, segmenter: SegmentationModel) -> PeftModel:
        """Adapts a segmenter; its decoder is trained in full."""
        model = adapt(segmenter, self.method, self.options)
        encoder = model.base_model.model.vision_encoder
        for place in self.places:
            place(encoder)
        return model


def encoder_weights(model: PeftModel) -> int:
    """How many weights of the encoder are trained."""
    return sum(one.numel() for one in model.base_model.model.vision_encoder.parameters() if one.requires_grad)


def _experts(gate: str, rank: int = 2) -> Callable[[], nn.Module]:
    return lambda: WideExperts(rank, gate)


NECK = r"neck\.conv[12]"
VARIANTS: dict[str, Variant] = {
    "lora": Variant("LoRA of rank 3 on the attention projections", method="lora"),
    "lora-alpha96": Variant("the same, three times as strong", method="lora", options={"lora_alpha": 96}),
    "lora-alpha288": Variant("the same, nine times as strong", method="lora", options={"lora_alpha": 288}),
    "conv-lora": Variant("as published", method="conv-lora"),
    "conv-lora-alpha96": Variant("the same, three times as strong", method="conv-lora", options={"lora_alpha": 96}),
    # experts that see wider, and gates that the task teaches
    "wide": Variant("rank 2 with wide experts, a gate per map", (low_rank(QKV, 2, _experts("map")),)),
    "wide-top1": Variant("the same, the best expert alone", (low_rank(QKV, 2, _experts("top1")),)),
    "cells": Variant("the same, a gate per cell", (low_rank(QKV, 2, _experts("cell")),)),
    "cells-mlp": Variant(
        "the same beside the second layer of the MLP", (low_rank(r"layers\.\d+\.mlp\.lin2", 2, _experts("cell")),)
    ),
    "shared": Variant("rank 3 with one set of wide experts for all layers", (shared_experts(3),)),
    # convolutions of full width
    "depthwise-qkv": Variant("depthwise convolution before the attention projections", (depthwise(QKV),)),
    "depthwise-v": Variant("depthwise convolution of the values", (depthwise(QKV, after=192),)),
    "depthwise-mlp": Variant("depthwise convolution before the MLP", (depthwise(r"layers\.\d+\.mlp\.lin1"),)),
    "convpass": Variant(
        "convolutions beside attention and MLP", method="convpass", options={"bottleneck": 2, "scale": OF_CONVOLUTIONS}
    ),
    # placement
    "rest": Variant("LoRA of rank 1 in all linear layers but the attention projections", (low_rank(REST, 1),)),
    "patches": Variant(
        "LoRA of rank 2 on the attention projections, 4 on the patches", (low_rank(QKV, 2), low_rank(PATCHES, 4))
    ),
    "patches-global": Variant(
        "LoRA of rank 4 where attention is global, and on the patches",
        (low_rank(GLOBAL, 4), low_rank(PATCHES, 4)),
    ),
    "patches-shared": Variant("`patches` with the wide experts of `shared`", (shared_experts(2), low_rank(PATCHES, 4))),
    "neck": Variant(
        "LoRA of rank 2 on the attention projections, 2 on the neck", (low_rank(QKV, 2), low_rank(NECK, 2))
    ),
    "spread": Variant(
        "LoRA of rank 1 in the MLPs, on the patches and on the neck",
        (low_rank(r"layers\.\d+\.mlp\.lin[12]", 1), low_rank(PATCHES, 1), low_rank(NECK, 1)),
    ),
    "patches-alone": Variant("LoRA of rank 14 on the patches alone", (low_rank(PATCHES, 14),)),
    "neck-alone": Variant(
        "LoRA of rank 8 on the neck alone, without a gradient through the blocks", (low_rank(NECK, 8),)
    ),
    # the rank by layer
    "early": Variant("LoRA of rank 6 in the first half of the blocks", (low_rank(r"layers\.[012]\.attn\.qkv", 6),)),
    "late": Variant("LoRA of rank 6 in the last half of the blocks", (low_rank(r"layers\.[345]\.attn\.qkv", 6),)),
    "global": Variant("LoRA of rank 6 where attention is global", (low_rank(GLOBAL, 6),)),
    "windows": Variant("LoRA of rank 6 where attention is windowed", (low_rank(r"layers\.[024]\.attn\.qkv", 6),)),
}
