"""How well prompts are answered."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from scipy import ndimage
from transformers import SamModel

from convlora.data.checking.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.sources.opening import open_data
from convlora.data.transforms import prepare_image, prepare_mask
from pretraining.prompts import Prompts, answer, draw_prompts, iou


@torch.no_grad()
def score_prompts(sam: SamModel, images: torch.Tensor, prompts: Prompts) -> dict[str, float]:
    """Mean IoU at full size from a box, from a point (the mask that the model likes best), and of two easy answers."""
    sam.eval()
    box_ious, point_ious, filled = [], [], []
    for start in range(0, len(images), 8):
        part = slice(start, start + 8)
        embeddings = sam.vision_encoder(images[part]).last_hidden_state
        masks = prompts.masks[part]
        logits, _ = answer(sam, embeddings, boxes=prompts.boxes[part])
        box_ious.append(iou(_enlarge(logits[:, :, 0], masks) > 0, masks))
        logits, quality = answer(sam, embeddings, points=prompts.points[part], several=True)
        best = quality.argmax(dim=-1)[..., None, None, None].expand(-1, -1, 1, *logits.shape[-2:])
        point_ious.append(iou(_enlarge(logits.gather(2, best)[:, :, 0], masks) > 0, masks))
        filled.append(iou(_fill(prompts.boxes[part], masks), masks))
    sam.train()
    return {
        "box": torch.cat(box_ious).mean().item(),
        "point": torch.cat(point_ious).mean().item(),
        "filled_box": torch.cat(filled).mean().item(),
    }


def held_out_prompts(instances: torch.Tensor, per_image: int = 6) -> Prompts:
    """The same prompts every time, with exact boxes."""
    return draw_prompts(instances, per_image, torch.Generator().manual_seed(0), noise=0.0)


def _enlarge(logits: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(logits, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _fill(boxes: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The box itself as a mask: an answer that needs no image."""
    rows = torch.arange(like.shape[-2], device=like.device)[:, None] + 0.5
    columns = torch.arange(like.shape[-1], device=like.device)[None] + 0.5
    left, top, right, bottom = boxes[..., None, None].unbind(2)
    return (columns > left) & (columns < right) & (rows > top) & (rows < bottom)


def read_components(folder: Path, split: str = "test", per_image: int = 12) -> tuple[torch.Tensor, Prompts]:
    """Images of a binary data folder at 256 pixels, and prompts for the connected parts of their masks.

    Args:
        folder: The data folder.
        split: Which images.
        per_image: Prompts per image; parts are taken again where there are fewer.
    """
    source = open_data(folder)
    classes = check_data(source, full=False).classes
    images, instances = [], []
    for sample in source.splits[split]:
        image, labels = read_sample(sample, classes)
        images.append(prepare_image(image, (256, 256)))
        parts, _ = ndimage.label(labels == 1)
        instances.append(prepare_mask(parts, (256, 256)))
    return torch.stack(images), held_out_prompts(torch.stack(instances).long(), per_image)
