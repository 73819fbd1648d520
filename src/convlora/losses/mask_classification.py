"""The loss of mask classification: each mask token is matched to at most one class of the image."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class SetLossSettings:
    """Weights and sampling of [`set_loss`].

    Attributes:
        class_weight: Of the cross-entropy over classes.
        mask_weight: Of the cross-entropy of the masks.
        dice_weight: Of the Dice loss of the masks.
        no_object_weight: Of tokens that are matched to nothing, in the cross-entropy over classes.
        match_class_weight: Of the class probability, in the cost of a match.
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
        labels: `(B, H, W)`, classes 0..K-1, or `ignore_index`.
        ignore_index: Pixels of this label are never looked at.
        class_weights: `(K,)` weights of the classes in the cross-entropy over classes.
        settings: Weights and sampling.

    Returns:
        A scalar in single precision. An image of which every pixel is ignored teaches nothing.

    Raises:
        ValueError: If an image has more classes than there are mask tokens.
    """
    mask_logits, class_logits = mask_logits.float(), class_logits.float()
    settings = replace(settings, points=min(settings.points, mask_logits.shape[-2] * mask_logits.shape[-1]))
    kinds = [_kinds(one, ignore_index) for one in labels]
    valid = labels != ignore_index
    with torch.no_grad():
        matches = [
            match(masks, classes, own, kind, random_points(1, settings.points, known), settings)
            for masks, classes, own, kind, known in zip(mask_logits, class_logits, labels, kinds, valid, strict=True)
        ]
    taught = valid.flatten(1).any(dim=1)
    kinds_of_tokens = torch.full(class_logits.shape[:2], class_logits.shape[-1] - 1, device=class_logits.device)
    for row, (tokens, chosen), kind in zip(kinds_of_tokens, matches, kinds, strict=True):
        row[tokens] = kind[chosen]
    weights = torch.ones(class_logits.shape[-1], device=class_logits.device)
    weights[-1] = settings.no_object_weight
    if class_weights is not None:
        weights[:-1] = class_weights
    by_class = class_logits.sum() * 0
    if taught.any():
        by_class = F.cross_entropy(class_logits[taught].transpose(1, 2), kinds_of_tokens[taught], weight=weights)
    predicted, wanted = [], []
    for masks, own, kind, known, (tokens, chosen) in zip(mask_logits, labels, kinds, valid, matches, strict=True):
        if len(tokens):
            points = uncertain_points(masks[tokens], known, settings)
            predicted.append(_read(masks[tokens], points))
            wanted.append(shares_at(own, kind[chosen], points))
    if not predicted:
        return by_class * settings.class_weight + mask_logits.sum() * 0
    by_mask, by_dice = mask_losses(torch.cat(predicted), torch.cat(wanted))
    return settings.class_weight * by_class + settings.mask_weight * by_mask + settings.dice_weight * by_dice


def match(
    mask_logits: Tensor,
    class_logits: Tensor,
    labels: Tensor,
    kinds: Tensor,
    points: Tensor,
    settings: SetLossSettings = SetLossSettings(),
) -> tuple[Tensor, Tensor]:
    """The cheapest assignment of the classes of one image to mask tokens.

    Args:
        mask_logits: `(N, h, w)`.
        class_logits: `(N, K + 1)`.
        labels: Classes of the image's pixels, `(H, W)`.
        kinds: The classes to find, `(n,)`.
        points: Where masks are compared, `(1, P, 2)` as (x, y) in [0, 1].
        settings: Weights of the costs.

    Returns:
        Mask tokens in ascending order, and for each the place of its class in `kinds`, `(n,)` both.

    Raises:
        ValueError: If there are more classes than tokens.
    """
    if len(kinds) > len(mask_logits):
        raise ValueError(
            f"an image has {len(kinds)} classes, but there are {len(mask_logits)} mask tokens; raise num_mask_tokens"
        )
    if len(kinds) == 0:
        nothing = kinds.new_empty(0)
        return nothing, nothing
    predicted = _read(mask_logits, points.expand(len(mask_logits), -1, -1))
    wanted = shares_at(labels, kinds, points)
    cost = settings.mask_weight * pair_wise_sigmoid_cross_entropy_loss(predicted, wanted)
    cost = cost + settings.dice_weight * pair_wise_dice_loss(predicted, wanted)
    cost = cost - settings.match_class_weight * class_logits.softmax(dim=-1)[:, kinds]
    # A diverged model must not crash here; its loss says what is wrong.
    largest = torch.finfo(cost.dtype).max
    from scipy.optimize import linear_sum_assignment  # slow to import, and of no use to binary tasks

    tokens, chosen = linear_sum_assignment(cost.nan_to_num(largest, largest, largest).cpu().numpy())
    return torch.as_tensor(tokens, device=kinds.device), torch.as_tensor(chosen, device=kinds.device)


def mask_losses(predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice loss, both averaged over the masks.

    Args:
        predicted: Logits of masks at points, `(M, P)`.
        wanted: What they should be, 0 to 1, `(M, P)`.
    """
    return sigmoid_cross_entropy_loss(predicted, wanted, len(predicted)), dice_loss(predicted, wanted, len(predicted))


def shares_at(labels: Tensor, kinds: Tensor, points: Tensor) -> Tensor:
    """Masks of classes read at points by interpolation, `(M, P)`, without making the masks.

    Args:
        labels: Classes of the pixels, `(H, W)`.
        kinds: Class of each mask, `(M,)`.
        points: `(M, P, 2)`, or `(1, P, 2)` for all, as (x, y) in [0, 1].
    """
    height, width = labels.shape
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    total = torch.zeros(len(kinds), points.shape[1], device=points.device)
    for row, of_row in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, of_column in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            found = labels[row.long().clamp(0, height - 1), column.long().clamp(0, width - 1)]
            total = total + (found == kinds[:, None]) * (of_row * of_column * inside)
    return total


def uncertain_points(mask_logits: Tensor, valid: Tensor, settings: SetLossSettings) -> Tensor:
    """Points at which the masks `(M, h, w)` of an image are near zero, and some anywhere: `(M, P, 2)`.

    Source: Kirillov et al., "PointRend", CVPR 2020, section 4.1.
    """
    with torch.no_grad():
        candidates = random_points(len(mask_logits), int(settings.points * settings.oversample_ratio), valid)
        uncertain = int(settings.importance_sample_ratio * settings.points)
        nearest = _read(mask_logits, candidates).abs().topk(uncertain, dim=1, largest=False).indices
        kept = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
        return torch.cat([kept, random_points(len(mask_logits), settings.points - uncertain, valid)], dim=1)


def random_points(count: int, points: int, valid: Tensor) -> Tensor:
    """Uniform points `(count, points, 2)` as (x, y) in [0, 1] that do not lie on ignored pixels.

    Args:
        count: Number of maps.
        points: Number of points per map.
        valid: `(H, W)`, bool. Without a valid pixel the points are anywhere.
    """
    drawn = torch.rand(count, points, 2, device=valid.device)
    if bool(valid.all()) or not bool(valid.any()):
        return drawn
    # Off the ignored pixels, and on pixel centres, where no ignored neighbour is mixed in.
    known = valid.flatten().nonzero()[:, 0]
    width = valid.shape[1]
    place = known[torch.randint(len(known), (count, points), device=valid.device)]
    x, y = (place % width + 0.5) / width, (place.div(width, rounding_mode="floor") + 0.5) / valid.shape[0]
    return torch.stack([x, y], dim=-1).to(drawn.dtype)


def _kinds(labels: Tensor, ignore_index: int) -> Tensor:
    """The classes in a label map, `(n,)`."""
    kinds: Tensor = labels.unique()
    return kinds[kinds != ignore_index]


def _read(maps: Tensor, points: Tensor) -> Tensor:
    """Maps `(M, h, w)` at points `(M, P, 2)`, by interpolation: `(M, P)`."""
    values: Tensor = sample_point(maps[:, None], points, align_corners=False)[:, 0]
    return values
