"""Prompts for things in scenes, and how good an answer is."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from transformers import SamModel

from pretraining.dense import CELL, boxes

MIN_AREA = 4 * CELL * CELL  # pixels; less than that is nothing to ask for in masks with cells of 4 pixels


class Prompts(NamedTuple):
    """P things of each image.

    Attributes:
        boxes: `(B, P, 4)` in pixels.
        points: `(B, P, 1, 2)` in pixels, (x, y).
        masks: The things, `(B, P, H, W)`, bool.
    """

    boxes: torch.Tensor
    points: torch.Tensor
    masks: torch.Tensor


def draw_prompts(instances: torch.Tensor, count: int, generator: torch.Generator, noise: float = 0.1) -> Prompts:
    """Draws things, large ones more often, a loose box around each and a point in it.

    Args:
        instances: `(B, H, W)`.
        count: Prompts per image.
        generator: Decides everything; on the CPU, so that a training is the same on every device.
        noise: How far the sides of a box are off, as a share of its sides, with a normal distribution; at most 20
            pixels.

    Source of the noise: Kirillov et al., "Segment Anything", 2023, appendix A.
    """
    height, width = instances.shape[1:]
    box, area = boxes(instances)
    weights = area.float().sqrt() * (area >= MIN_AREA)
    weights[:, 0] = 0
    weights[:, 0] += (weights.sum(dim=1) == 0).float()  # an empty scene: ask for the ground
    chosen = torch.multinomial(weights.cpu(), count, replacement=True, generator=generator).to(weights.device)
    masks = instances[:, None] == chosen[..., None, None]
    own = box.gather(1, chosen[..., None].expand(-1, -1, 4)).float()
    sides = torch.stack([own[..., 2] - own[..., 0], own[..., 3] - own[..., 1]], dim=-1).repeat(1, 1, 2)
    shift = torch.randn(own.shape, generator=generator).to(own) * noise * sides
    own = own + shift.clamp(-20, 20)
    own[..., 0::2] = own[..., 0::2].clamp(0, width)
    own[..., 1::2] = own[..., 1::2].clamp(0, height)
    return Prompts(own, random_points(masks, generator), masks)


def random_points(masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A pixel of each mask `(B, P, H, W)`, inside rather than at the border: `(B, P, 1, 2)`.

    Every second pixel is looked at; a mask without any of them gets a point anywhere.
    """
    sparse = masks[..., ::2, ::2].float()
    width = sparse.shape[-1]
    inner = 1 - F.max_pool2d(1 - sparse, 3, 1, 1)
    weights = sparse.flatten(2) * 0.05 + inner.flatten(2) + 1e-9
    place = torch.multinomial(weights.flatten(0, 1).cpu(), 1, generator=generator)
    place = place.view(masks.shape[:2]).to(masks.device)
    return 2 * torch.stack([place % width, place // width], dim=-1)[:, :, None].float() + 0.5


def at_cells(masks: torch.Tensor) -> torch.Tensor:
    """Masks `(B, P, H, W)` as shares of each cell, `(B, P, h, w)`."""
    return F.avg_pool2d(masks.float(), CELL)


def answer(
    sam: SamModel,
    embeddings: torch.Tensor,
    *,
    boxes: torch.Tensor | None = None,
    points: torch.Tensor | None = None,
    masks: torch.Tensor | None = None,
    several: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The decoder's masks `(B, P, M, h, w)`, M = 3 if several are asked for and else 1, and its guess of their IoU.

    Without boxes and points there is one answer per image, P = 1.
    """
    labels = None if points is None else torch.ones(points.shape[:3], dtype=torch.int, device=points.device)
    if points is None and boxes is None:
        prompts = None
        height, width = embeddings.shape[-2:]
        dense = sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1).expand(len(embeddings), -1, height, width)
    else:
        prompts, dense = sam.prompt_encoder(
            input_points=points, input_labels=labels, input_boxes=boxes, input_masks=None
        )
    if masks is not None:  # transformers' decoder takes one earlier mask per image, we have one per prompt
        batch, count = masks.shape[:2]
        embeddings = embeddings.repeat_interleave(count, 0)
        dense = sam.prompt_encoder.mask_embed(masks.flatten(0, 1)[:, None])
        prompts = prompts.flatten(0, 1)[:, None]
    position = sam.get_image_wide_positional_embeddings().repeat(embeddings.shape[0], 1, 1, 1)
    out = sam.mask_decoder(
        image_embeddings=embeddings,
        image_positional_embeddings=position,
        sparse_prompt_embeddings=prompts,
        dense_prompt_embeddings=dense,
        multimask_output=several,
    )
    logits, quality = out[0], out[1]
    if masks is not None:
        logits, quality = logits.view(batch, count, *logits.shape[2:]), quality.view(batch, count, -1)
    return logits, quality


def mask_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Dice plus cross-entropy that weighs figure and ground alike, `(B, P, M)`.

    Cross-entropy or focal loss over all cells would make the empty mask a good answer for small things.

    Args:
        logits: `(B, P, M, h, w)`.
        targets: `(B, P, h, w)` of 0..1.
    """
    targets = targets[:, :, None].expand_as(logits).flatten(3)
    logits = logits.flatten(3)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    inside = (entropy * targets).sum(-1) / targets.sum(-1).clamp(min=1.0)
    outside = (entropy * (1 - targets)).sum(-1) / (1 - targets).sum(-1).clamp(min=1.0)
    focal = (entropy * (logits.sigmoid() - targets).abs() ** 2).mean(-1)
    probabilities = logits.sigmoid()
    dice = 1 - (2 * (probabilities * targets).sum(-1) + 1) / (probabilities.sum(-1) + targets.sum(-1) + 1)
    return dice + 0.25 * (inside + outside) + 4 * focal


def prompt_loss(logits: torch.Tensor, quality: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of the best mask of each prompt plus the error of all guessed IoUs; and the mean IoU of the best."""
    targets = at_cells(masks)
    losses = mask_losses(logits, targets)
    best, which = losses.min(dim=-1)
    with torch.no_grad():
        overlap = iou(logits > 0, (targets > 0.5)[:, :, None])
    guessed = F.mse_loss(quality, overlap)
    return best.mean() + guessed, overlap.gather(-1, which[..., None]).mean()


def iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boolean maps over the last two axes."""
    both, either = (first & second).sum((-1, -2)), (first | second).sum((-1, -2))
    return both / either.clamp(min=1)
