"""Attention with SAM's relative bias for some queries at a time, computed again in the backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch

from convlora.models.autocast import without_autocast
from convlora.models.products import bf16_products

# Scores held at a time: few enough to stay near the processor between the passes over them, many enough for matrix
# products to run at full speed.
BLOCK_SCORES = 1 << 21


def attend_in_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    scale: float,
    rounded: bool = False,
) -> torch.Tensor:
    """Attention for some queries at a time.

    Arguments and result are those of `convlora.models.attention.attend_with_vectors`, but the bias as it is.

    Nothing of the size of the attention matrix is kept: the backward pass computes the blocks again, from the logarithm
    of each query's soft-max denominator. All is computed in the type of the arguments, under autocast too. It should be
    single precision at least, see [`at_least_single`]: scores rounded to half move the probabilities by percents.

    With `rounded`, query, key, value and the gradient of the result are single-precision copies of bf16 numbers. A CPU
    with bf16 instructions then multiplies them twice as fast, and still exactly, see [`bf16_products`]. Products
    with probabilities stay in single precision.

    Source: Rabe and Staats, "Self-attention does not need O(n^2) memory", 2021; Dao et al., "FlashAttention", 2022.
    """
    flat = [part.flatten(0, 1) for part in (query, key, value, rows, columns)]
    out: torch.Tensor = _BlockAttention.apply(*flat, scale, rounded)
    return out.view(value.shape)


def at_least_single(part: torch.Tensor) -> torch.Tensor:
    """A tensor in single precision if it is in half, and as it is otherwise."""
    return part.float() if part.dtype in (torch.float16, torch.bfloat16) else part


def _without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """A step of an autograd function whose operations keep the type of their arguments.

    The backward pass may run within a user's autocast, so it does not suffice that the forward pass does not.
    """

    @wraps(function)
    def step(ctx: Any, first: torch.Tensor, *others: Any) -> Any:
        with without_autocast(first.device):
            return function(ctx, first, *others)

    return step


class _BlockAttention(torch.autograd.Function):
    """Attention of `(M, N, d)` queries, keys and values with implicit bias `(M, N, H)` and `(M, N, W)`."""

    @staticmethod
    @_without_autocast
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rows: torch.Tensor,
        columns: torch.Tensor,
        scale: float,
        rounded: bool,
    ) -> torch.Tensor:
        out = torch.empty(value.shape, dtype=value.dtype, device=value.device)
        log_sum = query.new_empty(query.shape[:2])
        blocks = _blocks(*query.shape[:2])
        space = _Space(query, blocks)
        for maps, queries in blocks:
            scores = _biased_scores(query, key, rows, columns, scale, rounded, maps, queries, space)
            top = scores.amax(dim=-1, keepdim=True)
            scores.sub_(top).exp_()
            total = scores.sum(dim=-1, keepdim=True)
            out[maps, queries] = torch.bmm(scores, value[maps]).div_(total)
            log_sum[maps, queries] = top.add_(total.log_()).squeeze(-1)
        ctx.save_for_backward(query, key, value, rows, columns, out, log_sum)
        ctx.scale, ctx.rounded = scale, rounded
        return out

    @staticmethod
    @_without_autocast
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, rows, columns, out, log_sum = ctx.saved_tensors
        (grad_out,) = grads
        grad_query = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        grad_key, grad_value = torch.zeros_like(grad_query), torch.zeros_like(grad_query)
        grad_rows, grad_columns = torch.empty_like(rows), torch.empty_like(columns)
        # Row sums of gradient times probability equal those of gradient times output.
        shift = (grad_out * out).sum(dim=-1, keepdim=True)
        blocks = _blocks(*query.shape[:2])
        space, more_space = _Space(query, blocks), _Space(query, blocks)
        for maps, queries in blocks:
            scores = _biased_scores(query, key, rows, columns, ctx.scale, ctx.rounded, maps, queries, space, log_sum)
            probabilities = scores.exp_()
            block_grad = grad_out[maps, queries]
            grad_value[maps].baddbmm_(probabilities.transpose(1, 2), block_grad)
            grad_scores = more_space.take(probabilities.shape)
            with bf16_products(query.device, ctx.rounded):  # exact: the gradient comes from a tensor in bf16
                torch.bmm(block_grad, value[maps].transpose(1, 2), out=grad_scores)
            grad_scores.sub_(shift[maps, queries]).mul_(probabilities)
            grid = grad_scores.unflatten(2, (rows.shape[-1], columns.shape[-1]))
            grad_rows[maps, queries] = grid.sum(dim=-1)
            grad_columns[maps, queries] = grid.sum(dim=-2)
            grad_query[maps, queries] = torch.bmm(grad_scores, key[maps]).mul_(ctx.scale)
            grad_key[maps].baddbmm_(grad_scores.transpose(1, 2), query[maps, queries], alpha=ctx.scale)
        return grad_query, grad_key, grad_value, grad_rows, grad_columns, None, None


class _Space:
    """Memory for one block, taken once: asking the system for megabytes in every round costs more than the sums do."""

    def __init__(self, like: torch.Tensor, blocks: list[tuple[slice, slice]]) -> None:
        maps, queries = like.shape[:2]
        first, second = blocks[0]
        self.memory = like.new_empty(len(range(maps)[first]) * len(range(queries)[second]) * queries)

    def take(self, shape: Sequence[int]) -> torch.Tensor:
        """A tensor of a shape, in memory that the next block will use again."""
        return self.memory[: math.prod(shape)].view(*shape)


def _blocks(maps: int, queries: int) -> list[tuple[slice, slice]]:
    """Cuts the queries of all maps and heads into blocks of about [`BLOCK_SCORES`] scores."""
    if queries * queries <= BLOCK_SCORES:
        step = max(1, BLOCK_SCORES // (queries * queries))
        return [(slice(start, start + step), slice(None)) for start in range(0, maps, step)]
    step = max(1, BLOCK_SCORES // queries)
    return [(slice(m, m + 1), slice(start, start + step)) for m in range(maps) for start in range(0, queries, step)]


def _biased_scores(
    query: torch.Tensor,
    key: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    scale: float,
    rounded: bool,
    maps: slice,
    queries: slice,
    space: _Space,
    log_sum: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scores of a block, minus the logarithm of the soft-max denominator if it is known: `(m, q, N)`."""
    block_rows = rows[maps, queries]
    if log_sum is not None:
        block_rows = block_rows - log_sum[maps, queries].unsqueeze(-1)
    block_columns = columns[maps, queries]
    scores = space.take((*block_rows.shape, block_columns.shape[-1]))
    torch.add(block_rows.unsqueeze(-1), block_columns.unsqueeze(-2), out=scores)
    with bf16_products(query.device, rounded):
        return scores.flatten(2).baddbmm_(query[maps, queries], key[maps].transpose(1, 2), alpha=scale)
