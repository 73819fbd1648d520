"""The shapes of the published models in the catalogue, for weights of the true size."""

import torch
import transformers as hf
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig
from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerModel

from convlora.models.random_sam import randomize


def _vit(hidden, layers, heads, **more):
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * hidden, **more,
    }  # fmt: skip


SMALL, BASE, LARGE = (384, 12, 6), (768, 12, 12), (1024, 24, 16)
DINOV2 = {"image_size": 518, "patch_size": 14}
SAMS = {
    "facebook/sam-vit-base": (768, 12, [2, 5, 8, 11]),
    "facebook/sam-vit-large": (1024, 24, [5, 11, 17, 23]),
    "facebook/sam-vit-huge": (1280, 32, [7, 15, 23, 31]),
    "wanglab/medsam-vit-base": (768, 12, [2, 5, 8, 11]),
}
SAM_HQS = {
    "syscv-community/sam-hq-vit-base": SAMS["facebook/sam-vit-base"],
    "syscv-community/sam-hq-vit-large": SAMS["facebook/sam-vit-large"],
    "syscv-community/sam-hq-vit-huge": SAMS["facebook/sam-vit-huge"],
}
SAM2S = {  # blocks of the stages, first width, first heads, windows, blocks with global attention, background
    "facebook/sam2.1-hiera-tiny": ([1, 2, 7, 2], 96, 1, [8, 4, 14, 7], [5, 7, 9], 7),
    "facebook/sam2.1-hiera-small": ([1, 2, 11, 2], 96, 1, [8, 4, 14, 7], [7, 10, 13], 7),
    "facebook/sam2.1-hiera-base-plus": ([2, 3, 16, 3], 112, 2, [8, 4, 14, 7], [12, 16, 20], 14),
    "facebook/sam2.1-hiera-large": ([2, 6, 36, 4], 144, 2, [8, 4, 16, 8], [23, 33, 43], 7),
}
SAM3S = {"facebook/sam3": hf.Sam3TrackerConfig}  # whose defaults are its shape
VITS = {
    "facebook/dinov2-small": (hf.Dinov2Model, hf.Dinov2Config, _vit(*SMALL, **DINOV2)),
    "facebook/dinov2-base": (hf.Dinov2Model, hf.Dinov2Config, _vit(*BASE, **DINOV2)),
    "facebook/dinov2-large": (hf.Dinov2Model, hf.Dinov2Config, _vit(*LARGE, **DINOV2)),
    "facebook/dinov2-with-registers-base": (
        hf.Dinov2WithRegistersModel,
        hf.Dinov2WithRegistersConfig,
        _vit(*BASE, **DINOV2, num_register_tokens=4),
    ),
    "facebook/dinov3-vits16-pretrain-lvd1689m": (
        hf.DINOv3ViTModel,
        hf.DINOv3ViTConfig,
        _vit(*SMALL, num_register_tokens=4),
    ),
    "facebook/dinov3-vitb16-pretrain-lvd1689m": (
        hf.DINOv3ViTModel,
        hf.DINOv3ViTConfig,
        _vit(*BASE, num_register_tokens=4),
    ),
    "facebook/dinov3-vitl16-pretrain-lvd1689m": (
        hf.DINOv3ViTModel,
        hf.DINOv3ViTConfig,
        _vit(*LARGE, num_register_tokens=4),
    ),
    "google/vit-base-patch16-224-in21k": (hf.ViTModel, hf.ViTConfig, _vit(*BASE)),
    "facebook/vit-mae-base": (hf.ViTMAEModel, hf.ViTMAEConfig, _vit(*BASE)),
    "openai/clip-vit-base-patch16": (hf.CLIPVisionModel, hf.CLIPVisionConfig, _vit(*BASE, patch_size=16)),
    "google/siglip-base-patch16-224": (hf.SiglipVisionModel, hf.SiglipVisionConfig, _vit(*BASE, patch_size=16)),
}


def architecture(source: str) -> hf.PreTrainedModel:
    """A model of the shape of a published one with random weights; on the meta device without any."""
    if source in SAMS or source in SAM_HQS:
        width, depth, globally = {**SAMS, **SAM_HQS}[source]
        vision = {
            "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": 12 if width == 768 else 16,
            "global_attn_indexes": globally, "mlp_dim": 4 * width,
        }  # fmt: skip
        if source in SAMS:
            return _drawn(hf.SamModel(hf.SamConfig(vision_config=hf.SamVisionConfig(**vision))))
        return _drawn(hf.SamHQModel(hf.SamHQConfig(vision_config=vision, mask_decoder_config={"vit_dim": width})))
    if source in SAM2S:
        blocks, width, heads, windows, globally, background = SAM2S[source]
        widths = [width * 2**stage for stage in range(4)]
        backbone = Sam2HieraDetConfig(
            hidden_size=width, num_attention_heads=heads, blocks_per_stage=blocks, embed_dim_per_stage=widths,
            num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)], window_size_per_stage=windows,
            global_attention_blocks=globally, window_positional_embedding_background_size=[background] * 2,
        )  # fmt: skip
        vision = hf.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
        return _drawn(hf.Sam2Model(hf.Sam2Config(vision_config=vision)))
    if source in SAM3S:
        return _drawn(Sam3TrackerModel(SAM3S[source]()))
    model, config, settings = VITS[source]
    return model(config(**settings)).eval()


def _drawn(model: hf.PreTrainedModel) -> hf.PreTrainedModel:
    if model.device != torch.device("meta"):
        randomize(model)
    return model.eval()
