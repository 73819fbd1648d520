"""The usual loss of classes that compete for each pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from convlora.enlarge import enlarge_rows, row_bands


def per_pixel_loss(
    logits: Tensor, labels: Tensor, *, ignore_index: int = 255, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy plus Dice over the classes in the batch.

    Args:
        logits: `(B, K, h, w)`; enlarged to the size of the labels here, some rows at a time.
        labels: `(B, H, W)`, classes 0..K-1 or `ignore_index`. Not checked, see `convlora.losses.check_labels`.
        ignore_index: Pixels of this label count nowhere.
        class_weights: `(K,)` weights of the cross-entropy.

    Returns:
        A scalar in single precision; 0 with zero gradients if every pixel is ignored. The Dice term is the mean over
        the classes that occur in the batch: one that does not occur would pull all of its scores to zero.
    """
    count = logits.shape[1]
    size = (labels.shape[-2], labels.shape[-1])
    bands = list(row_bands(count, size))
    totals: list[Tensor] = []
    for own_logits, own_labels in zip(logits, labels, strict=True):
        for top, bottom in bands:
            inputs = own_logits, own_labels[top:bottom], size, top, bottom, ignore_index, class_weights
            if len(bands) > 1:
                # The backward pass enlarges each band again: memory does not grow with classes times pixels.
                band = checkpoint(_band, *inputs, use_reentrant=False, preserve_rng_state=False)  # draws nothing
                totals.append(torch.stack(band))
            else:
                totals.append(torch.stack(_band(*inputs)))
    entropy, weight, both, sums, sizes = torch.stack(totals).sum(dim=0)
    present = sizes > 0
    dice = 1 - (2 * both + 1) / (sums + sizes + 1)
    return entropy[0] / weight[0].clamp(min=1e-6) + (dice * present).sum() / present.sum().clamp(min=1)


def _band(
    logits: Tensor,
    labels: Tensor,
    size: tuple[int, int],
    top: int,
    bottom: int,
    ignore_index: int,
    class_weights: Tensor | None,
) -> tuple[Tensor, ...]:
    """Sums over some rows of one image, each `(K,)`.

    Cross-entropy and its weights (the same number K times), probability of each class on its own pixels, probability of
    each class anywhere, and number of its pixels.
    """
    large = enlarge_rows(logits.float(), size, top, bottom)
    count = len(large)
    valid = labels != ignore_index
    target = labels.masked_fill(~valid, 0).flatten()
    known = valid.flatten().float()
    logs = large.flatten(1).log_softmax(dim=0)
    own = logs.gather(0, target[None])[0]
    weights = known if class_weights is None else class_weights.float()[target] * known
    entropy, weight = -(own * weights).sum(), weights.sum()
    nothing = torch.zeros(count, device=large.device)
    both = nothing.index_add(0, target, own.exp() * known)
    sums = (logs.exp() * known).sum(dim=1)
    sizes = nothing.index_add(0, target, known)
    return entropy.expand(count), weight.expand(count), both, sums, sizes
