"""The loss of mask classification: each mask token is matched to at most one class of the image.

SciPy finds the matches on the host, so the costs of all images of a batch are copied there at once. Nothing else waits
for the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import (
    dice_loss,
    pair_wise_dice_loss,
    pair_wise_sigmoid_cross_entropy_loss,
    sample_point,
    sigmoid_cross_entropy_loss,
)

_NOTHING = -100  # kind of a token that teaches nothing


@dataclass(frozen=True)
class SetLossSettings:
    """Weights and sampling of [`set_loss`].

    Attributes:
        class_weight: Weight of the cross-entropy over classes.
        mask_weight: Weight of the cross-entropy of the masks.
        dice_weight: Weight of the Dice loss of the masks.
        no_object_weight: Weight of tokens that are matched to nothing, in the cross-entropy over classes.
        match_class_weight: Weight of the class probability, in the cost of a match.
        points: Points at which masks are compared, at most one per cell of the predicted masks; memory does not depend
            on the size of the image.
        oversample_ratio: So many times more points are drawn, and the most uncertain kept.
        importance_sample_ratio: Share of the points that is kept for its uncertainty.

    Source: Cheng et al., "Masked-attention Mask Transformer", CVPR 2022, sections 3.3 and 4.1.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    match_class_weight: float = 2.0
    points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75

    @classmethod
    def weighted(cls, by_class: float, mask: float, dice: float) -> SetLossSettings:
        """The weights of the three terms, in the loss and in the cost of a match."""
        return cls(class_weight=by_class, mask_weight=mask, dice_weight=dice, match_class_weight=by_class)


def set_loss(
    mask_logits: Tensor,
    class_logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: Tensor | None = None,
    settings: SetLossSettings = SetLossSettings(),
) -> Tensor:
    """Matches mask tokens to the classes in each image and sums the losses of the matches.

    Args:
        mask_logits: `(B, N, h, w)`, of any size: points are read by interpolation.
        class_logits: `(B, N, K + 1)`; the last is "no object".
        labels: `(B, H, W)`, classes 0..K-1, or `ignore_index`. Not checked, see `convlora.losses.check_labels`.
        ignore_index: Pixels of this label do not count.
        class_weights: `(K,)` weights of the classes in the cross-entropy over classes.
        settings: Weights and sampling.

    Returns:
        A scalar in single precision. An image with nothing but ignored pixels adds nothing.

    Raises:
        ValueError: If an image has more classes than there are mask tokens.
    """
    mask_logits, class_logits = mask_logits.float(), class_logits.float()
    settings = replace(settings, points=min(settings.points, mask_logits.shape[-2] * mask_logits.shape[-1]))
    images, tokens, num_classes = len(labels), class_logits.shape[1], class_logits.shape[-1] - 1
    valid = labels != ignore_index
    counted = labels.long().masked_fill(~valid, num_classes)
    known = count_valid(valid)
    with torch.no_grad():
        points = random_points(torch.arange(images, device=labels.device), settings.points, known)
        shares = class_shares_at(counted, num_classes, points)
        costs = match_costs(mask_logits, class_logits, shares, points, settings)
        present = classes_in(counted, num_classes)
        ignored = known.partly_ignored()[:, None].expand_as(present)
        # With the costs goes which classes there are, and whether pixels are ignored: one copy, the only one.
        table = _to_host(torch.cat([costs, torch.stack([present, ignored], dim=1).to(costs.dtype)], dim=1))
    costs_on_host, there, some_ignored = table[:, :tokens], table[:, tokens] > 0, bool(table[:, tokens + 1].any())
    kinds = match(costs_on_host, there)
    matched = np.flatnonzero(kinds >= 0)
    if len(matched) == 0:  # every pixel is ignored
        return (class_logits.sum() + mask_logits.sum()) * 0
    # Of an image without a known pixel not even "no object" is learned.
    wanted = np.where(kinds >= 0, kinds, np.where(there.any(axis=1, keepdims=True), num_classes, _NOTHING))
    uploaded = _to_device(np.concatenate([wanted.reshape(-1), matched]), labels.device)
    kinds_of_tokens, rows = uploaded[: images * tokens], uploaded[images * tokens :]
    weights = class_logits.new_ones(num_classes) if class_weights is None else class_weights.to(class_logits.dtype)
    weights = F.pad(weights, (0, 1), value=settings.no_object_weight)
    by_class = F.cross_entropy(class_logits.flatten(0, 1), kinds_of_tokens, weight=weights, ignore_index=_NOTHING)
    masks = mask_logits.flatten(0, 1).index_select(0, rows)
    owners = rows.div(tokens, rounding_mode="floor")
    points = uncertain_points(masks, owners, known if some_ignored else None, settings)
    shares = shares_at(counted, owners, kinds_of_tokens.index_select(0, rows), points)
    by_mask, by_dice = mask_losses(_read(masks[:, None], points)[:, 0], shares)
    return settings.class_weight * by_class + settings.mask_weight * by_mask + settings.dice_weight * by_dice


def match_costs(
    mask_logits: Tensor,
    class_logits: Tensor,
    shares: Tensor,
    points: Tensor,
    settings: SetLossSettings = SetLossSettings(),
) -> Tensor:
    """What it costs to match each mask token to each class, `(B, N, K)`.

    Args:
        mask_logits: `(B, N, h, w)`.
        class_logits: `(B, N, K + 1)`.
        shares: Masks of the classes at the points, `(B, K, P)`.
        points: Where masks are compared, `(B, P, 2)` as (x, y) in [0, 1].
        settings: Weights of the costs.
    """
    predicted = _read(mask_logits, points)
    cost = settings.mask_weight * torch.vmap(pair_wise_sigmoid_cross_entropy_loss)(predicted, shares)
    cost = cost + settings.dice_weight * torch.vmap(pair_wise_dice_loss)(predicted, shares)
    cost = cost - settings.match_class_weight * class_logits.softmax(dim=-1)[..., :-1]
    # A diverged model must not crash here; its loss says what is wrong.
    largest = torch.finfo(cost.dtype).max
    return cost.nan_to_num(largest, largest, largest)


def match(costs: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The cheapest assignment of the classes in each image to mask tokens, on the host.

    Args:
        costs: `(B, N, K)`, as [`match_costs`] gives them.
        present: Which classes are in which image, `(B, K)`, bool.

    Returns:
        The class of each token, -1 where it is matched to nothing, `(B, N)` int64.

    Raises:
        ValueError: If there are more classes than tokens.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and of no use to binary tasks

    kinds_of_tokens = np.full(costs.shape[:2], -1, dtype=np.int64)
    for own, cost, there in zip(kinds_of_tokens, costs, present, strict=True):
        kinds = np.flatnonzero(there)
        if len(kinds) > len(own):
            raise ValueError(
                f"an image has {len(kinds)} classes, but there are {len(own)} mask tokens; raise num_mask_tokens"
            )
        tokens, chosen = linear_sum_assignment(cost[:, kinds])
        own[tokens] = kinds[chosen]
    return kinds_of_tokens


def mask_losses(predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice loss, both averaged over the masks.

    Args:
        predicted: Logits of masks at points, `(M, P)`.
        wanted: What they should be, 0 to 1, `(M, P)`.
    """
    return sigmoid_cross_entropy_loss(predicted, wanted, len(predicted)), dice_loss(predicted, wanted, len(predicted))


def classes_in(labels: Tensor, num_classes: int) -> Tensor:
    """Which classes occur in each image, `(B, K)`, bool.

    Args:
        labels: `(B, H, W)`, classes 0..K-1, or K for pixels that do not count.
        num_classes: K.
    """
    there = torch.zeros(len(labels), num_classes + 1, dtype=torch.bool, device=labels.device)
    return there.scatter(1, labels.flatten(1), True)[:, :-1]


def class_shares_at(labels: Tensor, num_classes: int, points: Tensor) -> Tensor:
    """The masks of all classes read at points by interpolation, `(B, K, P)`, without making the masks.

    Args:
        labels: `(B, H, W)`, classes 0..K-1, or K for pixels that do not count.
        num_classes: K.
        points: `(B, P, 2)` as (x, y) in [0, 1].
    """
    images = torch.arange(len(labels), device=labels.device)
    shares = torch.zeros(len(labels), num_classes + 1, points.shape[1], device=points.device)
    for found, weight in _neighbours(labels, images, points):
        shares.scatter_add_(1, found[:, None], weight[:, None])
    return shares[:, :-1]


def shares_at(labels: Tensor, images: Tensor, kinds: Tensor, points: Tensor) -> Tensor:
    """Masks of one class each read at points by interpolation, `(M, P)`, without making the masks.

    Args:
        labels: Classes of the pixels, `(B, H, W)`.
        images: Image of each mask, `(M,)`.
        kinds: Class of each mask, `(M,)`.
        points: `(M, P, 2)` as (x, y) in [0, 1].
    """
    total = torch.zeros(points.shape[:2], device=points.device)
    for found, weight in _neighbours(labels, images, points):
        total = total + (found == kinds[:, None]) * weight
    return total


def uncertain_points(
    mask_logits: Tensor, images: Tensor, known: ValidPixels | None, settings: SetLossSettings
) -> Tensor:
    """Points at which masks `(M, h, w)` are near zero, and some anywhere: `(M, P, 2)`.

    Args:
        mask_logits: `(M, h, w)`.
        images: Image of each mask, `(M,)`.
        known: Where the images have pixels that count; None if no pixel is ignored.
        settings: How many points, and how they are chosen.

    Source: Kirillov et al., "PointRend", CVPR 2020, section 4.1.
    """
    with torch.no_grad():
        candidates = random_points(images, int(settings.points * settings.oversample_ratio), known)
        uncertain = int(settings.importance_sample_ratio * settings.points)
        values = _read(mask_logits[:, None], candidates)[:, 0]
        nearest = values.abs().topk(uncertain, dim=1, largest=False).indices
        kept = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
        return torch.cat([kept, random_points(images, settings.points - uncertain, known)], dim=1)


class ValidPixels(NamedTuple):
    """Where the images of a batch have pixels that count, in a form that one can be drawn from without a wait.

    Attributes:
        size: (height, width) of the images.
        order: `(B * H * W,)` int32: how many pixels count up to each, images one after the other.
        before: `(B,)` int32: how many count in the images before.
        counts: `(B,)` int32: how many count in each image.
    """

    size: tuple[int, int]
    order: Tensor
    before: Tensor
    counts: Tensor

    def partly_ignored(self) -> Tensor:
        """Images with both ignored pixels and others, `(B,)` bool."""
        return (self.counts > 0) & (self.counts < self.size[0] * self.size[1])


def count_valid(valid: Tensor) -> ValidPixels:
    """Counts the pixels that count, `(B, H, W)` bool."""
    order = valid.flatten().cumsum(0, dtype=torch.int32)
    counts = valid.flatten(1).sum(dim=1, dtype=torch.int32)
    return ValidPixels((valid.shape[1], valid.shape[2]), order, counts.cumsum(0, dtype=torch.int32) - counts, counts)


def random_points(images: Tensor, points: int, known: ValidPixels | None) -> Tensor:
    """Uniform points `(M, points, 2)` as (x, y) in [0, 1] that do not lie on ignored pixels.

    Args:
        images: The image that each of the M sets of points is for, `(M,)`.
        points: Number of points per set.
        known: Where the images have pixels that count. An image without any gets points anywhere. None if no pixel is
            ignored, which saves the search.
    """
    anywhere = torch.rand(len(images), points, 2, device=images.device)
    if known is None:
        return anywhere
    height, width = known.size
    counts = known.counts[images][:, None]
    # Off the ignored pixels, and on pixel centres, where no ignored neighbour is mixed in. The n-th pixel that counts
    # is where the running count first exceeds n.
    drawn = torch.randint(2**31 - 1, (len(images), points), dtype=torch.int32, device=images.device)
    nth = known.before[images][:, None] + drawn % counts.clamp(min=1)
    place = torch.searchsorted(known.order, nth, right=True, out_int32=True)
    place = place - (images[:, None] * (height * width)).to(place.dtype)
    row = place.div(width, rounding_mode="floor")
    centres = torch.stack([(place - row * width + 0.5) / width, (row + 0.5) / height], dim=-1)
    return torch.where(known.partly_ignored()[images][:, None, None], centres, anywhere)


def _neighbours(labels: Tensor, images: Tensor, points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels of the four pixels around points `(M, P, 2)` and their weights in an interpolation, `(M, P)` each."""
    height, width = labels.shape[1:]
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    for row, of_row in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, of_column in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            yield _labels_at(labels, images, row, column), of_row * of_column * inside


def _labels_at(labels: Tensor, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Labels `(B, H, W)` at pixels `(M, P)`, or at the nearest where these lie outside."""
    height, width = labels.shape[1:]
    place = row.clamp(0, height - 1).long().mul_(width).add_(column.clamp(0, width - 1).long())
    return labels.flatten()[place.add_(images[:, None] * (height * width))]


def _read(maps: Tensor, points: Tensor) -> Tensor:
    """Maps `(M, C, h, w)` at points `(M, P, 2)`, by interpolation: `(M, C, P)`."""
    values: Tensor = sample_point(maps, points, align_corners=False)
    return values


def _to_host(values: Tensor) -> np.ndarray:
    """The one copy of a step that the host waits for."""
    return values.cpu().numpy()


def _to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """A copy that nobody waits for: from pageable memory the host would wait until it is through."""
    tensor = torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
