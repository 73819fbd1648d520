"""The experts by their effective kernels: all samples and chosen experts in a fixed number of operations.

No operation here asks the device for a number, so a GPU never waits for the host, and none loops over experts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from convlora.methods.conv_lora.effective_kernels import (
    HALF_WEIGHTS,
    MOST_PHASES,
    REACH,
    WINDOW,
    border_index,
    edge_weights,
    last_phase,
    phase_weights,
    sample_table,
    touches_border,
)


class ExpertTables:
    """The constants of a set of experts.

    Args:
        scales: Scale of each expert.

    Attributes:
        phases: `P`, the most samples per axis and cell that any expert needs, 1 or 4.
        samples: `(n, P, 3, 5)`, see `sample_table`.
        kernels: `(n, 9, P * P * 25)`, the same for both axes at once: what a 3x3 kernel is multiplied by.
        reduction: `(n, P * P)`, how samples add up to a cell.
        is_half: `(n,)`, 1 for experts of scale 2, whose reduction reaches into neighbouring cells.
        edges: `(n, 2)`, see `edge_weights`.
        last: `(n,)` int64, see `last_phase`.
    """

    def __init__(self, scales: Sequence[int]) -> None:
        self.phases = 1 if all(scale % 2 for scale in scales) else MOST_PHASES
        self.has_half = 2 in scales
        self.has_border = any(touches_border(scale) for scale in scales)
        samples = np.stack([sample_table(scale)[: self.phases] for scale in scales])
        kernels = np.einsum("npdk,nqel->ndepqkl", samples, samples).reshape(len(scales), 9, -1)
        weights = [phase_weights(scale)[: self.phases] for scale in scales]
        self.samples = torch.from_numpy(samples)
        self.kernels = torch.from_numpy(kernels)
        self.reduction = torch.from_numpy(np.stack([np.outer(w, w).ravel() for w in weights]))
        self.is_half = torch.tensor([float(scale == 2) for scale in scales], dtype=torch.float64)
        self.edges = torch.from_numpy(np.stack([edge_weights(scale) for scale in scales]))
        self.last = torch.tensor([last_phase(scale) for scale in scales])

        self._borders: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def to(self, like: torch.Tensor) -> ExpertTables:
        """A copy with the device and type of a tensor."""
        other = copy.copy(self)
        other._borders = {}
        for name in ("samples", "kernels", "reduction", "is_half", "edges"):
            setattr(other, name, getattr(self, name).to(like.device, like.dtype))
        other.last = self.last.to(like.device)
        return other

    def border_index(self, *sizes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `border_index`; the sizes are `top_k`, `rank`, height and width."""
        if sizes not in self._borders:
            top_k, rank, height, width = sizes
            with torch.inference_mode(False):  # made in a prediction, they must serve in training too
                index = border_index(top_k, self.phases, rank, height, width)
                self._borders[sizes] = (index[0].to(self.last), index[1].to(self.last), index[2].to(self.last))
        return self._borders[sizes]


def mix_experts(
    z: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor,
    tables: ExpertTables,
) -> torch.Tensor:
    """`sum_k weights[b, k] * E_{indices[b, k]}(z[b])` for every map `b`.

    Args:
        z: `(B, r, H, W)`.
        weight: `(n, r, r, 3, 3)`.
        bias: `(n, r)`.
        indices: `(B, top_k)`, experts from 0.
        weights: `(B, top_k)`.
        tables: The experts' constants, of the device and type of `z`.

    Returns:
        `(B, r, H, W)`.
    """
    batch, rank, height, width = z.shape
    top_k, phases = indices.shape[1], tables.phases
    experts = indices.flatten()
    per_expert = effective_kernels(weight, tables)  # (n, P * P * r, r * 25)
    kernels = per_expert.index_select(0, experts).view(batch, -1, rank * WINDOW * WINDOW)
    offset = bias.repeat(1, phases * phases).index_select(0, experts).view(batch, -1, 1)

    # Cells beyond the border stand for the last ones, as bicubic interpolation has it.
    padded = F.pad(z, (REACH, REACH, REACH, REACH), mode="replicate")
    samples = torch.baddbmm(offset, kernels, F.unfold(padded, WINDOW))  # (B, k * P * P * r, H * W)
    if tables.has_border:
        index, surplus = _beyond_the_border(z, weight, experts, tables)
        samples = samples.view(batch, -1).scatter_add(1, index, surplus)
    samples = F.gelu(samples).view(batch, top_k * phases * phases, rank * height * width)

    reduction = tables.reduction.index_select(0, experts).view(batch, top_k, -1)
    reduction = (reduction * weights[:, :, None]).view(batch, 1, -1)
    mixed = torch.bmm(reduction, samples).view(batch, rank, height, width)
    if tables.has_half:
        share = tables.is_half.index_select(0, experts).view(batch, top_k) * weights  # (B, k)
        halves = samples.view(batch, top_k, phases, phases, rank, height, width)[:, :, :2, :2]
        mixed = mixed + (_halve(halves) * share[:, :, None, None, None]).sum(dim=1)
    return mixed


def effective_kernels(weight: torch.Tensor, tables: ExpertTables) -> torch.Tensor:
    """The kernels that make the samples that count straight from the cells.

    Args:
        weight: `(n, r, r, 3, 3)`.
        tables: The experts' constants.

    Returns:
        `(n, P * P * r, r * 25)`; rows by phase and output channel, columns by input channel and cell of the 5x5 window.
    """
    experts, rank = weight.shape[:2]
    kernels = torch.bmm(weight.reshape(experts, rank * rank, 9), tables.kernels)
    kernels = kernels.view(experts, rank, rank, -1, WINDOW * WINDOW)
    return kernels.permute(0, 3, 1, 2, 4).reshape(experts, -1, rank * WINDOW * WINDOW)


def _beyond_the_border(
    z: torch.Tensor, weight: torch.Tensor, experts: torch.Tensor, tables: ExpertTables
) -> tuple[torch.Tensor, torch.Tensor]:
    """Takes back what taps beyond the enlarged map contributed, where the convolution sees zeros.

    The samples were computed as if the enlarged map went on. For scales 1, 2 and 4 the outermost samples count, and
    their outer taps must not. What these contributed is a one-dimensional convolution along each side; at the corners,
    taken back twice, it is given again once.

    Args:
        z: `(B, r, H, W)`.
        weight: `(n, r, r, 3, 3)`.
        experts: `(B * k,)`.
        tables: The experts' constants.

    Returns:
        Where, `(B, m)` indices into the flattened samples of each map, and what to add there, `(B, m)`.
    """
    batch, rank, height, width = z.shape
    top_k = experts.shape[0] // batch
    own = weight.index_select(0, experts).view(batch, top_k, rank, rank, 3, 3)
    table = tables.samples.index_select(0, experts).view(batch, top_k, -1, 3, WINDOW)
    edge = tables.edges.index_select(0, experts).view(batch, top_k, 1, 1, 2)

    rows = _outside(z.transpose(2, 3)[:, None], edge)  # beyond top and bottom, (B, k, r, W, 2 sides)
    columns = _outside(z[:, None], edge)  # beyond left and right, (B, k, r, H, 2 sides)
    corners = _outside(rows.transpose(3, 4), edge)  # (B, k, r, 2 sides, 2 sides)
    parts = (
        -_along_sides(rows, own[..., ::2, :], table),
        -_along_sides(columns, own[..., ::2].transpose(4, 5), table),
        torch.einsum("bkcsm,bkocsm->bksmo", corners, own[..., ::2, ::2]).flatten(1),
    )
    base, step, slot = tables.border_index(top_k, rank, height, width)
    last = tables.last.index_select(0, experts).view(batch, top_k)
    return base + step * last.index_select(1, slot), torch.cat(parts, dim=1)


def _outside(lines: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
    """The samples just beyond both ends of the last axis, `(..., N)` -> `(..., 2)`."""
    size = lines.shape[-1]
    near = torch.stack([lines[..., 0], lines[..., -1]], dim=-1)
    far = torch.stack([lines[..., min(1, size - 1)], lines[..., max(size - 2, 0)]], dim=-1)
    return near * edge[..., :1] + far * edge[..., 1:]


def _along_sides(lines: torch.Tensor, taps: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """What the outer taps contribute along two opposite sides.

    Args:
        lines: The cells along the samples beyond, `(B, k, c, N, 2 sides)`.
        taps: The outer row of the 3x3 kernels at each side, `(B, k, o, c, 2 sides, 3)`.
        table: How samples along the side are made of cells, `(B, k, P, 3, 5)`.

    Returns:
        `(B, k * 2 * P * o * N)`.
    """
    batch, top_k, rank, size, _ = lines.shape
    kernels = torch.einsum("bkocse,bkqel->bksqocl", taps, table).reshape(batch * top_k * 2, -1, rank * WINDOW)
    lines = lines.permute(0, 1, 4, 2, 3).reshape(batch * top_k * 2, rank, size)
    padded = F.pad(lines, (REACH, REACH), mode="replicate")
    patches = torch.stack([padded[..., shift : shift + size] for shift in range(WINDOW)], dim=2)
    return torch.bmm(kernels, patches.flatten(1, 2)).view(batch, -1)


def _halve(samples: torch.Tensor) -> torch.Tensor:
    """Reduces maps enlarged by two, the only case that reads samples of neighbouring cells.

    Args:
        samples: `(B, k, 2, 2, r, H, W)`.

    Returns:
        `(B, k, r, H, W)`.
    """
    columns = _halve_last(samples[:, :, :, 0], samples[:, :, :, 1])  # (B, k, 2, r, H, W)
    upper, lower = columns[:, :, 0].transpose(3, 4), columns[:, :, 1].transpose(3, 4)
    return _halve_last(upper, lower).transpose(3, 4)


def _halve_last(even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    """Reduces the last axis, given the samples of even and of odd number; beyond the ends the last sample repeats."""
    before = torch.cat([even[..., :1], odd[..., :-1]], dim=-1)
    after = torch.cat([even[..., 1:], odd[..., -1:]], dim=-1)
    return HALF_WEIGHTS[1] * (even + odd) + HALF_WEIGHTS[0] * (before + after)
