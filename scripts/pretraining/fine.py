"""What the detail branch learns beside SAM: everything that is a thing, and where thin and small ones are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SamModel

from convlora.models.detail import FINEST, DetailBranch
from convlora.models.mask_decoder import Masks, SemanticMaskDecoder
from pretraining.dense import affinities, borders
from pretraining.prompts import at_cells, iou, mask_losses

OFFSETS = ((0, 2), (2, 0), (0, 8), (8, 0), (8, 8), (8, -8))  # in pixels
THIN = 5  # pixels: what has no square of this side in it is thin or small


class FineHead(nn.Module):
    """A detail branch and what it is taught, of which the branch alone is kept.

    The answer without a prompt, all things, is what a semantic segmenter starts from; it is taught coarse, as SAM
    draws it, and fine. Beside it, maps are predicted from the features themselves, so that they hold more than one
    answer needs: figure, borders, thin things, and what belongs together.

    Args:
        embedding_channels: Number of channels of the image embedding.
        finest: Level that the branch begins at, see `DetailBranch`.
    """

    def __init__(self, embedding_channels: int, finest: int = FINEST["half"]) -> None:
        super().__init__()
        self.branch = DetailBranch(embedding_channels, embedding_channels // 8, finest=finest)
        self.cell = 2**finest  # pixels, of the branch's finest features
        width = self.branch.project.weight.shape[1]
        self.maps = nn.Conv2d(width, 3 * self.cell * self.cell, 1)  # for each pixel: figure, border, thin
        self.together = nn.Conv2d(width, len(OFFSETS), 1)

    def loss(
        self, sam: SamModel, images: torch.Tensor, embeddings: torch.Tensor, instances: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The losses, and the IoU of the coarse and the fine answer.

        Args:
            sam: The SAM, whose decoder the branch joins.
            images: `(B, 3, H, W)`, as the model wants them.
            embeddings: Embeddings of the images, `(B, C, H / 16, W / 16)`.
            instances: `(B, H, W)`.
        """
        things = instances > 0
        decoder = SemanticMaskDecoder.from_sam(sam.mask_decoder)
        none = sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        tokens, features = decoder.decode(embeddings, sam.get_image_wide_positional_embeddings(), none)
        kernels = decoder.output_hypernetworks_mlps[0](tokens[:, :1])
        coarse = torch.einsum("bnc,bchw->bnhw", kernels, features)
        drawn = self.branch(images, embeddings, features)
        fine, correction = drawn[0], self.branch.masks(kernels, drawn)
        both = Masks(coarse, correction).finest()
        losses = {
            "all": mask_losses(coarse.float()[:, :, None], at_cells(things[:, None])).mean(),
            "fine": mask_losses(both[:, :, None], F.avg_pool2d(things[:, None].float(), self.cell)).mean(),
        }
        wanted = torch.stack([things, borders(instances), thin(instances)], dim=1).float()
        losses["maps"] = F.binary_cross_entropy_with_logits(
            F.pixel_shuffle(self.maps(fine).float(), self.cell),
            wanted,
            pos_weight=torch.tensor([1.0, 3.0, 3.0], device=images.device).view(3, 1, 1),
        )
        cells = instances[:, self.cell // 2 :: self.cell, self.cell // 2 :: self.cell]
        same, known = affinities(cells, [(down // self.cell, right // self.cell) for down, right in OFFSETS])
        losses["near"] = F.binary_cross_entropy_with_logits(self.together(fine).float(), same, weight=known)
        with torch.no_grad():
            for name, masks in (("all_iou", Masks(coarse, None)), ("fine_iou", Masks(coarse, correction))):
                losses[name] = iou(masks.at(images.shape[-2:]) > 0, things[:, None]).mean()
        return losses


def thin(instances: torch.Tensor) -> torch.Tensor:
    """Pixels `(B, H, W)` of things that hold no square of [`THIN`] pixels around them, by opening with it."""
    things = instances[:, None].float()
    inner = (-F.max_pool2d(-things, THIN, 1, THIN // 2) == F.max_pool2d(things, THIN, 1, THIN // 2)).float()
    opened = F.max_pool2d(inner, THIN, 1, THIN // 2) > 0
    return ((instances[:, None] > 0) & ~opened)[:, 0]


def finer(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a branch as those of one that begins a level finer, without the two levels that are not alike.

    Args:
        weights: Of the coarser branch, by name.
    """
    found = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        number, _, inner = rest.partition(".")
        if part == "down":  # the finest comes first
            name = None if number == "0" else f"down.{int(number) + 1}.{inner}"
        elif part == "up" and number == "2":  # it comes last
            name = None
        if name is not None:
            found[name] = value
    return found
