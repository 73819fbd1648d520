"""What a SAM is made of, read off its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from transformers import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

_MOST_BLOCKS = 1024  # what is above is meant to exhaust the memory


def architecture_of(weights: Mapping[str, torch.Tensor], *, decoder_eps: float = 1e-6) -> SamConfig:
    """The configuration of a SAM with these weights.

    Width, depth, heads and which blocks attend globally follow from the sizes. Of the mask decoder the heads do not:
    every SAM has eight.

    Args:
        weights: In transformers' naming. Those of prompts and of the head that predicts the masks' quality may be
            missing.
        decoder_eps: What the layer norms of the mask decoder add to the variance.

    Raises:
        KeyError: If a weight that every SAM has is missing.
        IndexError: If one has too few dimensions.
        ValueError: If the sizes contradict each other.
        ArithmeticError: Likewise.
    """
    patch = weights["vision_encoder.patch_embed.projection.weight"]  # (width, 3, 16, 16)
    grid = weights["vision_encoder.pos_embed"].shape[1]
    depth = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("vision_encoder.layers."))
    tables = [weights[f"vision_encoder.layers.{i}.attn.rel_pos_h"] for i in range(depth)]
    head_width = tables[0].shape[1]
    # A global block's table spans the grid, a windowed one's its window. If all are alike, the window is the grid.
    is_global = [table.shape[0] == 2 * grid - 1 for table in tables]
    windows = {(table.shape[0] + 1) // 2 for table, flag in zip(tables, is_global) if not flag}
    if len(windows) > 1:
        raise ValueError(f"windows of several sizes {sorted(windows)}")
    image_size = grid * patch.shape[-1]
    hidden = weights["mask_decoder.iou_token.weight"].shape[1]
    decoder_depth = 1 + max(int(k.split(".")[3]) for k in weights if k.startswith("mask_decoder.transformer.layers."))
    if decoder_depth > _MOST_BLOCKS:
        raise ValueError(f"{decoder_depth} blocks in the mask decoder")
    attention = weights["mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight"]
    masks, quality = (
        weights.get(name)
        for name in ("prompt_encoder.mask_embed.conv2.weight", "mask_decoder.iou_prediction_head.proj_in.weight")
    )
    points = sum(re.fullmatch(r"prompt_encoder\.point_embed\.\d+\.weight", k) is not None for k in weights)
    prompts = {} if masks is None else {"mask_input_channels": masks.shape[0]}
    if points:
        prompts["num_point_embeddings"] = points
    return SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=patch.shape[0],
            output_channels=weights["vision_encoder.neck.conv1.weight"].shape[0],
            num_hidden_layers=depth,
            num_attention_heads=patch.shape[0] // head_width,
            num_channels=patch.shape[1],
            image_size=image_size,
            patch_size=patch.shape[-1],
            mlp_dim=weights["vision_encoder.layers.0.mlp.lin1.weight"].shape[0],
            qkv_bias="vision_encoder.layers.0.attn.qkv.bias" in weights,
            window_size=windows.pop() if windows else 14,
            global_attn_indexes=[i for i, flag in enumerate(is_global) if flag],
            num_pos_feats=weights["shared_image_embedding.positional_embedding"].shape[1],
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=hidden, image_size=image_size, patch_size=patch.shape[-1], **prompts
        ),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=hidden,
            mlp_dim=weights["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            num_hidden_layers=decoder_depth,
            attention_downsample_rate=hidden // attention.shape[0],
            num_multimask_outputs=weights["mask_decoder.mask_tokens.weight"].shape[0] - 1,
            layer_norm_eps=decoder_eps,
            **({} if quality is None else {"iou_head_hidden_dim": quality.shape[0]}),
        ),
    )
