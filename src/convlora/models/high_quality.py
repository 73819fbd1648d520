"""SAM-HQ's mask features: what an early block of the encoder still knows of edges is added to SAM's own.

Source: Ke et al., "Segment Anything in High Quality", NeurIPS 2023.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers.models.sam.modeling_sam import SamLayerNorm
from transformers.models.sam_hq.configuration_sam_hq import SamHQMaskDecoderConfig
from transformers.models.sam_hq.modeling_sam_hq import SamHQMaskDecoder


class HighQualityFeatures(nn.Module):
    """Mask features of three parts, with the parameter names of transformers' `SamHQMaskDecoder`.

    Args:
        config: transformers' configuration of the mask decoder.
    """

    def __init__(self, config: SamHQMaskDecoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.compress_vit_conv1 = nn.ConvTranspose2d(config.vit_dim, width, kernel_size=2, stride=2)
        self.compress_vit_norm = SamLayerNorm(width, data_format="channels_first")
        self.compress_vit_conv2 = nn.ConvTranspose2d(width, width // 8, kernel_size=2, stride=2)
        self.encoder_conv1 = nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2)
        self.encoder_norm = SamLayerNorm(width // 4, data_format="channels_first")
        self.encoder_conv2 = nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2)
        self.mask_conv1 = nn.Conv2d(width // 8, width // 4, kernel_size=3, padding=1)
        self.mask_norm = SamLayerNorm(width // 4, data_format="channels_first")
        self.mask_conv2 = nn.Conv2d(width // 4, width // 8, kernel_size=3, padding=1)
        self.activation = nn.GELU()

    def take_from(self, decoder: SamHQMaskDecoder) -> None:
        """Takes over the modules of transformers' mask decoder, without copying their weights."""
        for name, _ in list(self.named_children()):
            setattr(self, name, getattr(decoder, name))

    def forward(self, features: torch.Tensor, image_embeddings: torch.Tensor, early: torch.Tensor) -> torch.Tensor:
        """Computes the features.

        Args:
            features: SAM's own mask features, `(B, C / 8, 4h, 4w)`.
            image_embeddings: `(B, C, h, w)` from the vision encoder.
            early: The output of its first block with global attention, `(B, D, h, w)`.

        Returns:
            `(B, C / 8, 4h, 4w)`.
        """
        own = self.mask_conv2(self.activation(self.mask_norm(self.mask_conv1(features))))
        last = self.encoder_conv2(self.activation(self.encoder_norm(self.encoder_conv1(image_embeddings))))
        first = self.compress_vit_conv2(self.activation(self.compress_vit_norm(self.compress_vit_conv1(early))))
        return own + last + first
