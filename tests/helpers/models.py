"""Tiny models for tests."""

import re

import torch
from torch import nn
from transformers import SamConfig, SamModel

from convlora.methods.registry import find_method
from convlora.models import (
    SamForSemanticSegmentation,
    SegmentationModel,
    UNetForSemanticSegmentation,
    UNetSegmentationConfig,
)
from convlora.models.random_sam import random_sam, small_sam_config


def tiny_config(image_size: int = 64, **kwargs) -> SamConfig:
    """Two blocks, one windowed (with padding: 4 cells in windows of 3) and one global."""
    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "decoder_size": 32,
        "window_size": 3,
    }
    return small_sam_config(image_size, **(settings | kwargs))


def tiny_sam(image_size: int = 64, seed: int = 0, **kwargs) -> SamModel:
    return random_sam(tiny_config(image_size, **kwargs), seed)


def tiny_segmenter(
    method: str, image_size: int | tuple[int, int] = 64, *, blocks: int = 4, **kwargs
) -> SegmentationModel:
    """What a method starts from: a SAM of so many blocks, or a narrow network in its place."""
    if find_method(method).network is None:
        return SamForSemanticSegmentation.from_sam(tiny_sam(num_hidden_layers=blocks), image_size=image_size, **kwargs)
    own = {key: value for key, value in kwargs.items() if key not in ("attention", "num_mask_tokens")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNetForSemanticSegmentation(UNetSegmentationConfig(width=8, image_size=image_size, **own))


def names_of_linear_layers(model: SegmentationModel) -> set[str]:
    """Of all linear layers within the blocks of the vision encoder."""
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.match(r"vision_encoder\.(.*\.)?(layers?|blocks)\.\d+\.", name)
    }


class TwoLinears(nn.Module):
    """Two linear layers that see feature maps or token grids, and a head."""

    def __init__(self, width: int = 12, hidden: int = 20) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(torch.tanh(self.first(x))))
