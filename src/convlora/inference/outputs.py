"""From what a segmenter returns for a batch to maps at each image's own size."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from convlora.models.semantic_maps import bands, semantic_map


def foreground_probability(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Probability of the foreground at an image's own size.

    Args:
        logits: `(1, H, W)` at the model's size.
        size: The image's own (height, width).

    Returns:
        `(height, width)` float32, on the device of the logits.
    """
    resized = F.interpolate(logits[None].float(), size=size, mode="bilinear", align_corners=False)
    return torch.sigmoid(resized[0, 0])


def is_binary(output: Any) -> bool:
    """Whether a model told the foreground by one logit map."""
    return getattr(output, "mask_logits", None) is None


def own_map(output: Any, index: int, size: tuple[int, int]) -> torch.Tensor:
    """Class of each pixel of one image, `(height, width)` int64.

    Args:
        output: What the segmenter returned.
        index: Which image of the batch.
        size: The image's own (height, width).
    """
    if is_binary(output):
        return (foreground_probability(output.logits[index], size) > 0.5).long()
    return semantic_map(*_masks(output, index), size)


def own_probabilities(output: Any, index: int, size: tuple[int, int]) -> torch.Tensor:
    """Probability of each class at each pixel of one image, `(K, height, width)` float32; they sum to 1.

    The scores of mask classification do not sum to 1, because tokens may overlap or find nothing: they are divided by
    their sum.
    """
    if is_binary(output):
        foreground = foreground_probability(output.logits[index], size)
        return torch.stack([1 - foreground, foreground])
    pieces = [scores / scores.sum(dim=0).clamp(min=1e-12) for _, scores in bands(*_masks(output, index), size)]
    return torch.cat(pieces, dim=1)


def _masks(output: Any, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    return output.mask_logits[index], None if output.class_logits is None else output.class_logits[index]
