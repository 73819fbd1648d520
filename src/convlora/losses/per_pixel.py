"""The usual loss of classes that compete for each pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def per_pixel_loss(
    logits: Tensor, labels: Tensor, *, ignore_index: int = 255, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy plus Dice over the classes in the batch.

    Args:
        logits: `(B, K, h, w)`; enlarged to the size of the labels here, image by image.
        labels: `(B, H, W)`, classes 0..K-1 or `ignore_index`.
        ignore_index: Pixels of this label count nowhere.
        class_weights: `(K,)` weights of the cross-entropy.

    Returns:
        A scalar in single precision; 0 with zero gradients if every pixel is ignored. The Dice term is the mean over
        the classes that occur in the batch: one that does not occur would pull all of its scores to zero.
    """
    count = logits.shape[1]
    entropy, weight = logits.sum() * 0, logits.new_zeros((), dtype=torch.float32)
    both = torch.zeros(count, device=logits.device)
    sums, sizes = torch.zeros_like(both), torch.zeros_like(both)
    for own_logits, own_labels in zip(logits, labels, strict=True):
        large = F.interpolate(own_logits[None].float(), size=own_labels.shape, mode="bilinear", align_corners=False)[0]
        valid = own_labels != ignore_index
        target = own_labels.masked_fill(~valid, 0)
        each = F.cross_entropy(large[None], target[None], weight=class_weights, reduction="none")[0]
        weights = valid.float() if class_weights is None else class_weights.float()[target] * valid
        entropy = entropy + (each * valid).sum()
        weight = weight + weights.sum()
        probabilities = large.softmax(dim=0) * valid
        flat, places = probabilities.flatten(1), target.flatten()[None]
        own = flat.gather(0, places)[0]
        both = both.index_add(0, places[0], own)
        sums = sums + flat.sum(dim=1)
        sizes = sizes.index_add(0, places[0], valid.flatten().float())
    present = sizes > 0
    dice = 1 - (2 * both + 1) / (sums + sizes + 1)
    return entropy / weight.clamp(min=1e-6) + (dice * present).sum() / present.sum().clamp(min=1)
