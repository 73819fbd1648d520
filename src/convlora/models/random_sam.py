"""Random SAMs of any size that behave like trained ones in their statistics: for tests, benchmarks and trials."""

from __future__ import annotations

import torch
from torch import nn
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig


def small_sam_config(
    image_size: int = 256,
    hidden_size: int = 96,
    num_hidden_layers: int = 4,
    num_attention_heads: int = 3,
    decoder_size: int = 64,
    window_size: int = 7,
) -> SamConfig:
    """A small SAM with every structural feature of the published ones: windowed and global blocks, relative positions.

    Args:
        image_size: Side of the square image in pixels.
        hidden_size: Width of the vision encoder.
        num_hidden_layers: Blocks of the vision encoder; every second one attends globally.
        num_attention_heads: Heads of the vision encoder.
        decoder_size: Width of the prompt encoder and the mask decoder, divisible by 16.
        window_size: Side of the windows in cells.
    """
    return SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            image_size=image_size,
            window_size=window_size,
            global_attn_indexes=list(range(1, num_hidden_layers, 2)),
            output_channels=decoder_size,
            num_pos_feats=decoder_size // 2,
            initializer_range=0.02,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=decoder_size, image_size=image_size),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=decoder_size,
            mlp_dim=4 * decoder_size,
            num_attention_heads=max(1, decoder_size // 32),
            iou_head_hidden_dim=decoder_size,
        ),
    )


@torch.no_grad()
def random_sam(config: SamConfig, seed: int = 0) -> SamModel:
    """A SAM with random weights whose outputs depend on the image.

    transformers' own initialisation would not do: it draws the vision encoder with deviation 1e-10 and leaves the
    position tables at zero, so that every image gives the same zeros, and it draws the position code with a deviation
    of half the encoder's width, so that neighbouring cells have unrelated codes.

    Args:
        config: Architecture.
        seed: Seed of the weights; torch's global generator is left as it was.

    Returns:
        The model in evaluation mode, float32.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SamModel(config)
        randomize(model)
        model.tie_weights()
    return model.eval()


@torch.no_grad()
def randomize(module: nn.Module) -> None:
    """Gives a SAM, or a part of one, new random weights, from torch's global generator; see [`random_sam`]."""
    for name, parameter in module.named_parameters():
        if name.endswith("positional_embedding"):
            parameter.normal_(std=1.0)
        elif "rel_pos" in name or name.endswith("pos_embed"):
            parameter.normal_(std=0.02)
        elif "norm" in name:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        elif parameter.ndim >= 2 and not name.endswith(("_embed.weight", "token.weight", "tokens.weight")):
            fan_in = parameter[0].numel() if "upscale" not in name else parameter.shape[0]
            parameter.normal_(std=fan_in**-0.5)
        elif parameter.ndim >= 2:
            parameter.normal_(std=1.0)
        else:
            parameter.normal_(std=0.02)
