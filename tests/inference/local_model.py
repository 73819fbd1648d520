"""Segmenters whose answer at a pixel depends on a few pixels around it only."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from convlora.data.classes.class_table import ClassTable
from convlora.data.transforms import resize_image
from convlora.inference.outputs import blendable_scores
from convlora.inference.segmenter import Segmenter
from convlora.models.outputs import BinaryOutput, MultiClassOutput

RADIUS = 2


class LocalModel(nn.Module):
    """One convolution in the place of everything."""

    def __init__(self, tokens: int, num_classes: int | None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, tokens, 2 * RADIUS + 1, padding=RADIUS)
        self.classes = None if num_classes is None else nn.Parameter(torch.randn(tokens, num_classes + 1))
        self.calls: list[int] = []

    def forward(self, pixel_values: torch.Tensor) -> BinaryOutput | MultiClassOutput:
        self.calls.append(len(pixel_values))
        maps = self.convolution(pixel_values)
        if maps.shape[1] == 1:
            return BinaryOutput.of(maps)
        classes = None if self.classes is None else self.classes.expand(len(maps), *self.classes.shape)
        return MultiClassOutput(mask_logits=maps, class_logits=classes)


def local_segmenter(kind: str = "binary", window: tuple[int, int] = (32, 32)) -> Segmenter:
    tokens, matched, names = {
        "binary": (1, None, ("background", "thing")),
        "per-pixel": (3, None, ("a", "b", "c")),
        "mask-classification": (5, 3, ("a", "b", "c")),
    }[kind]
    return Segmenter(LocalModel(tokens, matched), ClassTable(names), window)


def seen_whole(segmenter: Segmenter, pixels: np.ndarray, at_least: tuple[int, int]) -> torch.Tensor:
    """Scores `(C, H, W)` of an image that is not cut, continued by its mirror image up to a size."""
    height, width = pixels.shape[:2]
    missing = (max(0, at_least[0] - height), max(0, at_least[1] - width))
    padded = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    output = segmenter.forward(resize_image(Image.fromarray(padded), padded.shape[:2])[None])
    pieces = [scores for _, scores in blendable_scores(output, 0, padded.shape[:2])]
    return torch.cat(pieces, dim=1)[:, :height, :width]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
