"""The architecture of the small SAM and how its weights begin."""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers import SamConfig, SamModel

from convlora.models.random_sam import small_sam_config


def tiny_config() -> SamConfig:
    """256 pixels, 6 blocks of width 192, every second one global; decoder of width 128."""
    return small_sam_config(
        256, hidden_size=192, num_hidden_layers=6, num_attention_heads=6, decoder_size=128, window_size=8
    )


@torch.no_grad()
def new_sam(seed: int) -> SamModel:
    """A SAM at the start of its training.

    Encoder as in ViT (deviation 0.02), decoder as in Meta's code (PyTorch's own defaults, tokens and position code of
    unit variance). Two things are different, so that positions mean something from the first step: the encoder's
    position table starts as sines and cosines, and queries and keys between tokens and image start alike, which makes
    a prompt look at the place where it points.
    """
    torch.manual_seed(seed)
    sam = SamModel(tiny_config())
    for module in sam.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            module.reset_parameters()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_()
    encoder = sam.vision_encoder
    for module in encoder.layers.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            module.bias.zero_()
    for layer in encoder.layers:
        layer.attn.rel_pos_h.zero_()
        layer.attn.rel_pos_w.zero_()
    encoder.pos_embed.copy_(0.3 * _sines(*encoder.pos_embed.shape[1:]))
    sam.shared_image_embedding.positional_embedding.normal_()
    sam.prompt_encoder.shared_embedding.positional_embedding = sam.shared_image_embedding.positional_embedding
    sam.shared_image_embedding.requires_grad_(False)
    transformer = sam.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for block in transformer.layers:
        attentions += [block.cross_attn_token_to_image, block.cross_attn_image_to_token]
    for attention in attentions:
        nn.init.orthogonal_(attention.q_proj.weight, gain=1.2)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        attention.q_proj.bias.zero_()
        attention.k_proj.bias.zero_()
    return sam


def _sines(height: int, width: int, channels: int) -> torch.Tensor:
    """Sines and cosines of rows and columns at `channels / 4` wavelengths, `(1, height, width, channels)`."""
    waves = torch.exp(-math.log(100.0) * torch.arange(channels // 4) / (channels // 4))
    rows = (torch.arange(height)[:, None] * waves)[:, None].expand(-1, width, -1)
    columns = (torch.arange(width)[:, None] * waves)[None].expand(height, -1, -1)
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=-1)[None]
