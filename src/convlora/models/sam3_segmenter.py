"""SAM 3 as an end-to-end semantic segmenter of images."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import torch
from torch import nn
from transformers.models.sam3.modeling_sam3 import Sam3VisionModel
from transformers.models.sam3_tracker.modeling_sam3_tracker import (
    Sam3TrackerModel,
    Sam3TrackerPositionalEmbedding,
    Sam3TrackerPromptEncoder,
)

from convlora.models.configuration import as_size
from convlora.models.encoders.source import read_normalisation
from convlora.models.kinds import SAM3S
from convlora.models.layer_names import sam3_layers
from convlora.models.mask_decoder import SemanticMaskDecoder
from convlora.models.sam3_configuration import Sam3SegmentationConfig
from convlora.models.sam3_encoder import Sam3Encoder, place_global_blocks
from convlora.models.video_sam_segmenter import VideoSamSegmenter


class Sam3ForSemanticSegmentation(VideoSamSegmenter):
    """SAM 3 without prompts, concepts and memory: pixels in, logits per pixel out.

    Built of transformers' SAM 3 modules: the vision encoder, and the mask decoder of its tracker with the encoder's
    finer maps, which is trained like SAM's. What is for texts and videos is left out.

    Example:
        >>> model = Sam3ForSemanticSegmentation.from_pretrained("facebook/sam3")  # doctest: +SKIP

    Source: Carion et al., "SAM 3: Segment Anything with Concepts", 2025.
    """

    config_class = Sam3SegmentationConfig
    config: Sam3SegmentationConfig
    base_model_prefix = "sam3"
    name, sam_class, sam_types = "SAM 3", Sam3TrackerModel, SAM3S
    # Sam3VideoModel.save_pretrained of transformers 5 writes the prefix of the tracker twice.
    renames: ClassVar[dict[str, str]] = {r"^tracker_model\.tracker_model\.": "tracker_model."}
    vision_encoder: Sam3Encoder
    layer_names = sam3_layers

    def __init__(self, config: Sam3SegmentationConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        vision.backbone_config._attn_implementation = self._attention()
        config.mask_decoder_config._attn_implementation = config._attn_implementation
        self.shared_image_embedding = Sam3TrackerPositionalEmbedding(config.prompt_encoder_config)
        self._use_encoder(Sam3VisionModel(vision))
        self.prompt_encoder = Sam3TrackerPromptEncoder(config.prompt_encoder_config)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, vision.fpn_hidden_size))
        self.mask_decoder = SemanticMaskDecoder(config.mask_decoder_config)
        self._use_head()
        self.use_training_defaults()
        self.post_init()
        place_global_blocks(self.vision_encoder.backbone, config.grid_size)
        self.freeze_prompt_encoder()

    def _use_encoder(self, encoder: Sam3VisionModel) -> None:
        self.vision_encoder = Sam3Encoder(encoder, self.config.image_mean or (), self.config.image_std or ())

    def _settle_attention(self) -> None:
        self.vision_encoder.backbone.set_attn_implementation(self._attention())

    @classmethod
    def _read_beside(cls, source: str | os.PathLike[str], kwargs: dict[str, Any]) -> dict[str, Any]:
        return read_normalisation(source, kwargs)

    def resize(self, image_size: int | tuple[int, int]) -> None:
        """Makes the model take images of another size, in place.

        Args:
            image_size: (height, width) or one side of a square in pixels, divisible by the patch size.
        """
        super().resize(image_size)
        for backbone in (self.config.vision_config.backbone_config, self.vision_encoder.backbone.config):
            backbone.image_size = list(as_size(self.config.image_size))
        place_global_blocks(self.vision_encoder.backbone, self.config.grid_size)

    def encoder_facts(self) -> dict[str, Any]:
        """See [`SemanticSegmenter`]."""
        backbone = self.config.vision_config.backbone_config
        return {
            "kind": self.name,
            "blocks": backbone.num_hidden_layers,
            "width": backbone.hidden_size,
            "heads": backbone.num_attention_heads,
            "patch_size": backbone.patch_size,
            "window_size": backbone.window_size,
            "blocks_with_global_attention": list(backbone.global_attn_indexes),
        }

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.vision_encoder.backbone.get_input_embeddings()

    def _maps(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps: tuple[torch.Tensor, ...] = self.vision_encoder(pixel_values)
        return maps
