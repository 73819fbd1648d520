"""The convolution experts, each at a scale of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class ConvExperts(nn.Module):
    """`n` experts of one 3x3 convolution each, `r` to `r` channels, with the parameters of all stacked.

    Stacking keeps every parameter in the graph whichever experts are chosen: an expert that saw no sample gets a zero
    gradient, not none.

    Args:
        num_channels: The rank `r`.
        scales: Scale of each expert.

    Attributes:
        weight: `(n, r, r, 3, 3)`.
        bias: `(n, r)`.
    """

    def __init__(self, num_channels: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.weight = nn.Parameter(torch.empty(len(self.scales), num_channels, num_channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(len(self.scales), num_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialises every expert as `nn.Conv2d` would."""
        bound = 1.0 / math.sqrt(self.weight[0, 0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, z: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Weighted sum of the chosen experts.

        Args:
            z: Feature maps, `(B, r, H, W)`.
            indices: Chosen experts of each map, `(B, top_k)`.
            weights: Their weights, `(B, top_k)`.

        Returns:
            `(B, r, H, W)`.
        """
        # The maps come in single precision also where the parameters are kept in half.
        return mix_experts(z, self.weight.to(z.dtype), self.bias.to(z.dtype), indices, weights, self.scales)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.weight.shape[1]}, scales={self.scales}"


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
