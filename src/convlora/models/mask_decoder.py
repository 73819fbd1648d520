"""SAM's mask decoder without prompts: image embeddings in, one logit map out."""

from __future__ import annotations

import torch
from torch import nn
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamFeedForward, SamLayerNorm, SamMaskDecoder, SamTwoWayTransformer


class SemanticMaskDecoder(nn.Module):
    """The mask decoder for a binary task, with the parameter names of transformers' `SamMaskDecoder`.

    All of SAM's output tokens go through the two-way transformer, so that it starts as SAM's own single-mask output;
    the first mask token is read. The hyper-networks of SAM's other three masks and the head that predicts SAM's mask
    quality have no use here and are left out: every parameter that is there takes part.

    Args:
        config: transformers' configuration of the mask decoder.

    Source: Kirillov et al., "Segment Anything", 2023, appendix A; Zhong et al., ICLR 2024, section 3.3.
    """

    def __init__(self, config: SamMaskDecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(config.num_multimask_outputs + 1, width)
        self.transformer = SamTwoWayTransformer(config)
        self.upscale_conv1 = nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2)
        self.upscale_layer_norm = SamLayerNorm(width // 4, data_format="channels_first")
        self.upscale_conv2 = nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2)
        self.activation = nn.GELU()
        self.output_hypernetworks_mlps = nn.ModuleList([SamFeedForward(width, width, width // 8, 3)])

    @classmethod
    def from_sam(cls, decoder: SamMaskDecoder) -> SemanticMaskDecoder:
        """Takes over the modules of transformers' mask decoder, without copying their weights."""
        with torch.device("meta"):
            semantic = cls(decoder.config)
        for name, _ in list(semantic.named_children()):
            setattr(semantic, name, getattr(decoder, name))
        semantic.output_hypernetworks_mlps = nn.ModuleList([decoder.output_hypernetworks_mlps[0]])
        return semantic

    def forward(
        self, image_embeddings: torch.Tensor, image_positional_embeddings: torch.Tensor, dense_embedding: torch.Tensor
    ) -> torch.Tensor:
        """Predicts the mask of the foreground.

        Args:
            image_embeddings: `(B, C, h, w)` from the vision encoder.
            image_positional_embeddings: `(1, C, h, w)`.
            dense_embedding: `(1, C, 1, 1)`, SAM's embedding of "no mask given".

        Returns:
            Logits `(B, 1, 4h, 4w)`.
        """
        batch, channels, height, width = image_embeddings.shape
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = tokens.expand(batch, 1, -1, -1)  # transformers has a dimension of its own for prompts: here one

        tokens, cells = self.transformer(
            point_embeddings=tokens,
            image_embeddings=image_embeddings + dense_embedding,
            image_positional_embeddings=image_positional_embeddings.expand(batch, -1, -1, -1),
            attention_similarity=None,
        )

        features = cells.transpose(2, 3).reshape(batch, channels, height, width)
        features = self.activation(self.upscale_layer_norm(self.upscale_conv1(features)))
        features = self.activation(self.upscale_conv2(features))

        mask_token = tokens[:, 0, 1]  # the iou token comes first
        kernel = self.output_hypernetworks_mlps[0](mask_token)
        return torch.einsum("bc,bchw->bhw", kernel, features).unsqueeze(1)
