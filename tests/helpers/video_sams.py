"""Small random SAMs of the kinds that were made for videos, with every structural feature of the published ones."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from transformers.models.sam2.configuration_sam2 import (
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
)
from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerModel

from convlora.models.random_sam import randomize

DECODER = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


def small_sam2(size: int = 128, **decoder: Any) -> hf.Sam2Model:
    """Five blocks in four stages, one of them with global attention."""
    backbone = Sam2HieraDetConfig(
        hidden_size=16, num_attention_heads=1, image_size=[size, size], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128], num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 4], global_attention_blocks=[3],
        window_positional_embedding_background_size=[3, 3],
    )  # fmt: skip
    cells = [[size // stride, size // stride] for stride in (4, 8, 16)]
    vision = hf.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16], fpn_hidden_size=32,
        backbone_feature_sizes=cells,
    )  # fmt: skip
    config = hf.Sam2Config(
        vision_config=vision,
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=size),
        mask_decoder_config=Sam2MaskDecoderConfig(**{**DECODER, **decoder}),
    )
    torch.manual_seed(0)
    return drawn(hf.Sam2Model(config))


def sam3_parts(size: int | tuple[int, int] = 84, **decoder: Any) -> dict[str, Any]:
    """Configurations of the parts that SAM 3's trackers have: three blocks, one of them with global attention."""
    width, height = (size, size) if isinstance(size, int) else size
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "image_size": size if isinstance(size, int) else list(size), "window_size": 4,
        "pretrain_image_size": 42, "global_attn_indexes": [1],
    }  # fmt: skip
    cells = [[scale * height // 14, scale * width // 14] for scale in (4, 2, 1)]
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "backbone_feature_sizes": cells,
        "fpn_hidden_size": 32,
    }  # fmt: skip
    return {
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": 32, "image_size": max(height, width)},
        "mask_decoder_config": {**DECODER, **decoder},
    }


def small_sam3(size: int | tuple[int, int] = 84, **decoder: Any) -> Sam3TrackerModel:
    """SAM 3's tracker for images of six by six patches; another size is (width, height), as transformers takes it."""
    torch.manual_seed(0)
    return drawn(Sam3TrackerModel(hf.Sam3TrackerConfig(**sam3_parts(size, **decoder))))


def drawn(model: Any) -> Any:
    """Gives a model weights that tell images apart."""
    randomize(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("no_memory_embedding"):
                parameter.normal_(std=0.3)
            if name.endswith("position_embeddings"):
                parameter.normal_(std=0.5)
    return model.eval()
