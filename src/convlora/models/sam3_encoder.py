"""SAM 3's vision encoder: images in, the maps of embeddings that its mask decoder takes out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers.models.sam3.modeling_sam3 import Sam3VisionModel, Sam3ViTModel

from convlora.models.encoders.pixels import OwnNormalisation
from convlora.models.sam3_configuration import SCALES


class Sam3Encoder(nn.Module):
    """transformers' own ViT and pyramid, which see images in their own normalisation.

    Args:
        model: transformers' vision model of SAM 3. Its modules are taken over, not copied; a map that is coarser than
            the image embedding is left out.
        mean: Mean of each channel that it expects.
        std: Their standard deviation.

    Source: Carion et al., "SAM 3: Segment Anything with Concepts", 2025.
    """

    def __init__(self, model: Sam3VisionModel, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck
        self.neck.fpn_layers = self.neck.fpn_layers[: len(SCALES)]
        self._patch = int(model.config.backbone_config.patch_size)
        self._normalised = OwnNormalisation(mean, std)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Embeds images.

        Args:
            pixel_values: `(B, 3, H, W)` with ImageNet's mean and standard deviation taken out.

        Returns:
            `(B, C, 4h, 4w)`, `(B, C, 2h, 2w)` and `(B, C, h, w)`, where a cell of the last is a patch.
        """
        height, width = (side // self._patch for side in pixel_values.shape[-2:])
        hidden = self.backbone(self._normalised(pixel_values)).last_hidden_state
        cells = hidden.transpose(1, 2).unflatten(2, (height, width))
        return tuple(layer(cells) for layer in self.neck.fpn_layers)

    @property
    def pixel_facts(self) -> dict[str, float]:
        """See [`OwnNormalisation`]."""
        return self._normalised.facts


def place_global_blocks(backbone: Sam3ViTModel, grid_size: tuple[int, int]) -> None:
    """Tells the blocks with global attention where the cells are, in place, for images of any size.

    The rotary positions of the whole image span one window, as in the pretraining, along rows and along columns.
    transformers itself does so for squares; of an oblong image it would take rows for columns. Blocks with windows
    number the cells of a window, whatever the image.

    Args:
        backbone: transformers' ViT of SAM 3.
        grid_size: Cells, (height, width).
    """
    height, width = grid_size
    span = backbone.config.window_size
    for layer in backbone.layers:
        if layer.window_size == 0:
            device = layer.position_ids.device
            y = torch.arange(height, device=device, dtype=torch.float32) * (span / height)
            x = torch.arange(width, device=device, dtype=torch.float32) * (span / width)
            both = torch.stack([x[None].expand(height, -1), y[:, None].expand(-1, width)], dim=-1)
            layer.position_ids = both.flatten(0, 1)  # x first
