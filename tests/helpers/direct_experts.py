"""The experts as the formula says: enlarge, convolve, reduce. The judge of the fast form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from convlora.methods.conv_lora.experts import ConvExperts


def apply_expert(z: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: int) -> torch.Tensor:
    """One expert: enlarge `scale` times, 3x3 convolution, GELU, back to the size of `z`.

    Both resizings are bicubic with half-pixel centres and without antialiasing; nothing is resized for scale 1.

    Args:
        z: `(B, r, H, W)`.
        weight: `(r, r, 3, 3)`.
        bias: `(r,)`.
        scale: The expert's scale.

    Returns:
        `(B, r, H, W)`.

    Source: Zhong et al., ICLR 2024, equation 4.
    """
    height, width = z.shape[-2:]
    if scale != 1:
        z = F.interpolate(z, size=(height * scale, width * scale), mode="bicubic", align_corners=False)
    h = F.gelu(F.conv2d(z, weight, bias, padding=1))
    if scale != 1:
        h = F.interpolate(h, size=(height, width), mode="bicubic", align_corners=False)
    return h


def mix_experts(
    z: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor,
    scales: Sequence[int],
) -> torch.Tensor:
    """`sum_k weights[b, k] * E_{indices[b, k]}(z[b])` for every map `b`, in the direct form: see [`apply_expert`].

    Args:
        z: `(B, r, H, W)`.
        weight: `(n, r, r, 3, 3)`.
        bias: `(n, r)`.
        indices: `(B, top_k)`, experts from 0.
        weights: `(B, top_k)`.
        scales: Scale of each expert.

    Returns:
        `(B, r, H, W)`.
    """
    mixed = torch.zeros_like(z)
    for expert, scale in enumerate(scales):
        sample, slot = torch.nonzero(indices == expert, as_tuple=True)
        if sample.numel():
            h = apply_expert(z[sample], weight[expert], bias[expert], scale)
            mixed = mixed.index_add(0, sample, h * weights[sample, slot][:, None, None, None])
    return mixed


def use_direct_experts(model: nn.Module) -> None:
    """Lets all experts of a model compute in the direct form, in place."""
    for module in model.modules():
        if isinstance(module, ConvExperts):
            module.forward = partial(_forward, module)


def _forward(
    experts: ConvExperts, z: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """The direct form with the arguments of the fast one: maps `(B, H, W, r)`."""
    shares = torch.ones_like(indices, dtype=z.dtype) if weights is None else weights
    weight, bias = experts.weight.to(z.dtype), experts.bias.to(z.dtype)
    mixed = mix_experts(z.permute(0, 3, 1, 2), weight, bias, indices, shares, experts.scales)
    return mixed.permute(0, 2, 3, 1)
