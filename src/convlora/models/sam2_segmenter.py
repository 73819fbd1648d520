"""SAM 2 and 2.1 as an end-to-end semantic segmenter of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Sam2Model, Sam2VisionModel
from transformers.models.sam2.modeling_sam2 import Sam2PositionalEmbedding, Sam2PromptEncoder

from convlora.models.kinds import SAM2S
from convlora.models.layer_names import hiera_layers
from convlora.models.mask_decoder import SemanticMaskDecoder
from convlora.models.sam2_configuration import Sam2SegmentationConfig
from convlora.models.video_sam_segmenter import VideoSamSegmenter


class Sam2ForSemanticSegmentation(VideoSamSegmenter):
    """SAM 2 without prompts and memory: pixels in, logits per pixel out.

    Built of transformers' SAM 2 modules. The mask decoder is SAM 2's own, with the finer maps of the Hiera encoder, and
    is trained like SAM's; what is for videos is left out.

    Example:
        >>> model = Sam2ForSemanticSegmentation.from_pretrained("facebook/sam2.1-hiera-tiny")  # doctest: +SKIP

    Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024.
    """

    config_class = Sam2SegmentationConfig
    config: Sam2SegmentationConfig
    base_model_prefix = "sam2"
    name, sam_class, sam_types = "SAM 2", Sam2Model, SAM2S
    vision_encoder: Sam2VisionModel
    layer_names = hiera_layers

    def __init__(self, config: Sam2SegmentationConfig) -> None:
        super().__init__(config)
        config.vision_config._attn_implementation = self._attention()
        config.mask_decoder_config._attn_implementation = config._attn_implementation
        self.shared_image_embedding = Sam2PositionalEmbedding(config.prompt_encoder_config)
        self.vision_encoder = Sam2VisionModel(config.vision_config)
        self.prompt_encoder = Sam2PromptEncoder(config.prompt_encoder_config)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, config.vision_config.fpn_hidden_size))
        self.mask_decoder = SemanticMaskDecoder(config.mask_decoder_config)
        self._use_head()
        self.use_training_defaults()
        self.post_init()
        self.freeze_prompt_encoder()

    def encoder_facts(self) -> dict[str, Any]:
        """See [`SemanticSegmenter`]."""
        backbone = self.config.vision_config.backbone_config
        return {
            "kind": self.name,
            "blocks_of_stages": list(backbone.blocks_per_stage),
            "width_of_stages": list(backbone.embed_dim_per_stage),
            "heads_of_stages": list(backbone.num_attention_heads_per_stage),
            "window_sizes": list(backbone.window_size_per_stage),
            "blocks_with_global_attention": list(backbone.global_attention_blocks),
        }

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.vision_encoder.get_input_embeddings()

    def _maps(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps: tuple[torch.Tensor, ...] = self.vision_encoder(pixel_values).fpn_hidden_states
        return maps
