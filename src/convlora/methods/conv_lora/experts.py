"""The convolution experts, each at a scale of its own.

    E_i(z) = Down_s( GELU( Conv3x3_i( Up_s(z) ) ) )

Up and Down are bicubic interpolation by the expert's scale s, with half-pixel centres and without antialiasing; nothing
is resized for s = 1. The enlarged map is never made. Enlarging works on each channel by itself, so the channels are
mixed first, on the small map: nine products of the kernel's taps with the cells. One matrix per axis then adds up, for
all nine taps at once, the few samples that the reduction will read (see `resampling`), and one matrix per axis reduces
them. For all maps and chosen experts together these are a dozen batched matrix products and copies. None of them asks
the device for a number, so a GPU never waits for the host, and none loops over experts.

Source: Zhong et al., ICLR 2024, equation 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index

import torch
import torch.nn.functional as F
from torch import nn

from convlora.methods.conv_lora.gate import one_hot
from convlora.methods.conv_lora.resampling import AxisTables, axis_tables


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

    def forward(self, z: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Weighted sum of the chosen experts.

        Args:
            z: Feature maps, `(B, H, W, r)`.
            indices: Chosen experts of each map, `(B, top_k)`.
            weights: Their weights, `(B, top_k)`; None for 1.

        Returns:
            `(B, H, W, r)`, not contiguous.
        """
        # A compiler that leaves sizes open has to settle these: `index` makes it do so.
        rows, columns = (axis_tables(self.scales, index(size), z.dtype, z.device) for size in z.shape[1:3])
        # The maps come in single precision also where the parameters are kept in half.
        return mix_experts(z, self.weight.to(z.dtype), self.bias.to(z.dtype), indices, weights, rows, columns)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.weight.shape[1]}, scales={self.scales}"


def mix_experts(
    z: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor | None,
    rows: AxisTables,
    columns: AxisTables,
) -> torch.Tensor:
    """`sum_k weights[b, k] * E_{indices[b, k]}(z[b])` for every map `b`.

    Args:
        z: `(B, H, W, r)`.
        weight: `(n, r, r, 3, 3)`.
        bias: `(n, r)`.
        indices: `(B, top_k)`, experts from 0.
        weights: `(B, top_k)`, or None for 1.
        rows: Tables of the vertical axis, of the type and device of `z`.
        columns: Tables of the horizontal axis.

    Returns:
        `(B, H, W, r)`, not contiguous.
    """
    batch, height, width, rank = z.shape
    top_k = indices.shape[1]
    experts = indices.flatten()

    # Parameters are picked by products: the backward pass of an index adds up in an order that a GPU does not keep.
    picks = one_hot(experts, len(weight), weight.dtype)
    taps = picks @ weight.permute(0, 1, 3, 4, 2).reshape(len(weight), -1)
    offset = (picks @ bias).view(-1, 1, 1)

    # Channels are mixed first, for each tap (i, j) of the kernel: (B, k * r * 9, r) times (B, r, H * W).
    mixed = torch.bmm(taps.view(batch, -1, rank), z.reshape(batch, -1, rank).transpose(1, 2))
    mixed = mixed.view(-1, 3, 3, height, width).transpose(2, 3).reshape(-1, 3 * height, 3 * width)  # (B * k * r, ...)

    # Each map and channel picks the matrices of its expert.
    of_channel = experts[:, None].expand(-1, rank).reshape(-1)
    enlarge_rows, reduce_rows = (table.index_select(0, of_channel) for table in rows)
    enlarge_columns, reduce_columns = (
        (enlarge_rows, reduce_rows)
        if columns is rows
        else tuple(table.index_select(0, of_channel) for table in columns)
    )
    samples = torch.baddbmm(offset, torch.bmm(enlarge_rows, mixed), enlarge_columns.transpose(1, 2))
    samples = F.gelu(samples)  # (B * k * r, P * H, P * W)

    if weights is not None:
        reduce_rows = reduce_rows.view(batch * top_k, rank, height, -1) * weights.reshape(-1, 1, 1, 1)
        reduce_rows = reduce_rows.view(batch * top_k * rank, height, -1)
    cells = torch.bmm(torch.bmm(reduce_rows, samples), reduce_columns.transpose(1, 2))
    if top_k > 1:
        cells = cells.view(batch, top_k, rank, height, width).sum(dim=1)
    return cells.view(batch, rank, height, width).permute(0, 2, 3, 1)
