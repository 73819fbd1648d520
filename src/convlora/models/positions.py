"""SAM's position tables, brought to another image size once instead of in every forward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.sam.modeling_sam import SamVisionEncoder


def resize_vision_encoder(encoder: SamVisionEncoder, image_size: tuple[int, int]) -> None:
    """Makes a SAM vision encoder take images of another size, in place.

    The absolute table is resized bicubically, the relative tables of the blocks with global attention linearly. The
    latter is what SAM itself does in every forward pass when a table does not fit. Windowed blocks keep their
    tables: their windows stay 14 x 14 cells whatever the image.

    Args:
        encoder: transformers' SAM vision encoder.
        image_size: (height, width) in pixels, divisible by the patch size.
    """
    patch_height, patch_width = encoder.patch_embed.patch_size
    height, width = image_size[0] // patch_height, image_size[1] // patch_width
    encoder.patch_embed.image_size = tuple(image_size)
    encoder.patch_embed.num_patches = height * width
    encoder.image_size = max(image_size)
    if encoder.pos_embed is not None:
        encoder.pos_embed = _parameter(resize_absolute(encoder.pos_embed, (height, width)), encoder.pos_embed)
    for layer in encoder.layers:
        if layer.window_size == 0 and layer.attn.use_rel_pos:
            layer.attn.rel_pos_h = _parameter(resize_relative(layer.attn.rel_pos_h, height), layer.attn.rel_pos_h)
            layer.attn.rel_pos_w = _parameter(resize_relative(layer.attn.rel_pos_w, width), layer.attn.rel_pos_w)


def resize_absolute(table: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:
    """Resizes a table of absolute positions bicubically.

    Args:
        table: `(1, H, W, C)`.
        grid_size: New (height, width) in cells.

    Returns:
        `(1, height, width, C)`; the table itself if the size is right already.
    """
    if table.shape[1:3] == torch.Size(grid_size):
        return table
    channels_first = table.permute(0, 3, 1, 2).float()
    resized = F.interpolate(channels_first, size=grid_size, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(table.dtype).contiguous()


def resize_relative(table: torch.Tensor, side: int) -> torch.Tensor:
    """Resizes a table of relative positions along one axis linearly, as SAM does.

    Args:
        table: `(2 * old side - 1, head width)`.
        side: New number of cells along the axis.

    Returns:
        `(2 * side - 1, head width)`; the table itself if the size is right already.
    """
    length = 2 * side - 1
    if table.shape[0] == length:
        return table
    resized = F.interpolate(table.float().t()[None], size=length, mode="linear", align_corners=False)
    return resized[0].t().to(table.dtype).contiguous()


def _parameter(value: torch.Tensor, like: nn.Parameter) -> nn.Parameter:
    if value is like:
        return like
    return nn.Parameter(value.detach(), requires_grad=like.requires_grad)


def positions_of_cells(embedding: nn.Module, grid_size: tuple[int, int]) -> torch.Tensor:
    """SAM's code of the positions of all cells of an image embedding.

    Args:
        embedding: Its random Fourier features, which see coordinates `(..., 2)` from 0 to 1, x first.
        grid_size: Cells, (height, width).

    Returns:
        `(1, C, height, width)`.
    """
    height, width = grid_size
    table: torch.Tensor = embedding.positional_embedding  # type: ignore[assignment]
    y = (torch.arange(height, device=table.device, dtype=table.dtype) + 0.5) / height
    x = (torch.arange(width, device=table.device, dtype=table.dtype) + 0.5) / width
    grid = torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], dim=-1)
    code: torch.Tensor = embedding(grid).permute(2, 0, 1).unsqueeze(0)
    return code
