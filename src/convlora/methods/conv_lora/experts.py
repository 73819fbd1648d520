"""The convolution experts, each at a scale of its own.

    E_i(z) = Down_s( GELU( Conv3x3_i( Up_s(z) ) ) )

Up and Down are bicubic interpolation by the expert's scale s, with half-pixel centres and without antialiasing; nothing
is resized for s = 1. `fast_experts` computes exactly this without the enlarged maps.

Source: Zhong et al., ICLR 2024, equation 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from convlora.methods.conv_lora.fast_experts import ExpertTables, mix_experts


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
        # Constants, in double precision and never saved; kept in the type and on the device last needed.
        self._exact_tables = ExpertTables(self.scales)
        self._tables: ExpertTables | None = None
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
        weight, bias = self.weight.to(z.dtype), self.bias.to(z.dtype)
        return mix_experts(z, weight, bias, indices, weights, self._tables_for(z))

    def _tables_for(self, z: torch.Tensor) -> ExpertTables:
        tables = self._tables
        if tables is None or tables.samples.device != z.device or tables.samples.dtype != z.dtype:
            with torch.inference_mode(False):  # made in a prediction, they must serve in training too
                tables = self._tables = self._exact_tables.to(z)
        return tables

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.weight.shape[1]}, scales={self.scales}"
