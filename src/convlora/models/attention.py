"""SAM's attention without its bias of the size of the attention matrix.

SAM adds to the score of query `q` and key `k` a relative position bias `Rh[q, row of k] + Rw[q, column of k]`. Written
out, it is as large as the attention matrix itself: for 4,096 cells and 12 heads 0.8 GB per image and block in single
precision. Here it is never written out. Both forms are exact:

- `blocks`: scores, bias and soft-max for some queries at a time, computed again in the backward pass;
- `vectors`: the bias as more channels of query and key, for PyTorch's fused attention.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformers.models.sam.modeling_sam import SamVisionAttention, SamVisionEncoder, SamVisionSdpaAttention

from convlora.models.attention_blocks import at_least_single, attend_in_blocks
from convlora.models.autocast import without_autocast
from convlora.models.windows import cut_windows, join_windows
from convlora.tracing import is_traced

FORMS = ("auto", "blocks", "vectors", "sdpa", "eager")

# Up to as many cells in all maps together, a CPU is faster with vectors: blocks have too little to do to pay for their
# many small operations. On two cores blocks took 0.9 to 1.6 times as long as transformers' attention on one map of
# 32 x 32 cells, and 0.6 to 0.7 on four; vectors took 0.6 to 1.02 everywhere (`benchmarks/attention.py`).
FEW_CELLS = 2048

# Beyond as many channels PyTorch's fused kernels give up, and what takes their place writes out all scores: maps of
# over 96 x 96 cells for ViT-B and ViT-L (1536 pixels), of over 88 x 88 for ViT-H (1408 pixels).
MOST_CHANNELS = 256


class RelativeAttention(SamVisionAttention):
    """transformers' SAM attention, same parameters, with the bias left implicit."""

    form: str = "auto"
    _laid_out: tuple[Any, tuple[torch.Tensor, torch.Tensor]] | None = None

    def forward(
        self,
        hidden_states: torch.Tensor,
        output_attentions: bool = False,
        prompt_tokens: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attends within each map.

        Args:
            hidden_states: `(B, H, W, C)`.
            output_attentions: Ignored: the attention matrix never exists.
            prompt_tokens: `(n, C)` that every map sees too, see `convlora.methods.visual_prompts`.

        Returns:
            `(B, H, W, C)`, and None in place of the attention matrix.
        """
        batch, height, width, _ = hidden_states.shape
        heads = self.num_attention_heads
        # (B, H, W, 3 * C) -> three times (B, heads, H * W, head width)
        query, key, value = (
            self.qkv(hidden_states).view(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )
        # The blocks know cells only, and write in place with a backward pass of their own, which no exporter follows.
        is_plain = prompt_tokens is not None or is_traced()
        form = "vectors" if is_plain else self._form(hidden_states, height + width)
        more = None
        if prompt_tokens is not None:
            more = self._keys_and_values(prompt_tokens.to(hidden_states.dtype), batch)
        if form == "vectors" and (query.device.type != "cpu" or is_traced()):
            out = self._attend_with_vectors(query, key, value, (height, width), more)
        else:  # in single precision, which autocast would round
            with without_autocast(query.device):
                q, k, v = (at_least_single(part) for part in (query, key, value))
                if form == "vectors":
                    out = self._attend_with_vectors(q, k, v, (height, width), more)
                else:
                    rows, columns = self._bias(q, (height, width), 1.0)
                    rounded = value.dtype == torch.bfloat16
                    out = attend_in_blocks(q, k, v, rows, columns, self.scale, rounded)
                out = out.to(value.dtype)
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, -1)), None

    def _attend_with_vectors(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        size: tuple[int, int],
        more: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        # The scores of the fused kernels are scaled with the bias in them, so the bias is divided beforehand.
        rows, columns = self._bias(query, size, 1.0 / self.scale)
        return attend_with_vectors(query, key, value, rows, columns, self.scale, more)

    def _bias(self, query: torch.Tensor, size: tuple[int, int], share: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The two parts of the bias, times `share`, see [`relative_bias`]."""
        if self.use_rel_pos:
            return relative_bias(query, *self._bias_tables(size, query.dtype, share))
        rows, columns = (query.new_zeros(*query.shape[:3], side) for side in size)
        return rows, columns

    def _bias_tables(
        self, size: tuple[int, int], dtype: torch.dtype, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The position tables laid out for [`relative_bias`], times `share`; made once where they are frozen."""
        tables = self.rel_pos_h, self.rel_pos_w
        if any(table.requires_grad for table in tables) or torch.compiler.is_compiling() or is_traced():
            return lay_out(tables[0], size[0], dtype, share), lay_out(tables[1], size[1], dtype, share)
        key = (size, dtype, share, *((table.data_ptr(), table._version) for table in tables))
        laid_out = self._laid_out  # looked up once: another thread may replace it meanwhile
        if laid_out is None or laid_out[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # made in a prediction, they must serve in training too
                both = lay_out(tables[0], size[0], dtype, share), lay_out(tables[1], size[1], dtype, share)
            self._laid_out = laid_out = key, both
        return laid_out[1]

    def _keys_and_values(self, tokens: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of tokens `(n, C)`, each `(B, heads, n, d)`."""
        _, key, value = self.qkv(tokens[None, None])[0, 0].view(len(tokens), 3, self.num_attention_heads, -1).unbind(1)
        return key.transpose(0, 1).expand(batch, -1, -1, -1), value.transpose(0, 1).expand(batch, -1, -1, -1)

    def _form(self, hidden_states: torch.Tensor, bias_channels: int) -> str:
        if self.form != "auto":
            return self.form
        if hidden_states.device.type == "cpu":
            return "vectors" if hidden_states[..., 0].numel() <= FEW_CELLS else "blocks"
        channels = self.qkv.out_features // (3 * self.num_attention_heads) + bias_channels
        return "vectors" if channels <= MOST_CHANNELS else "blocks"


def set_attention(encoder: SamVisionEncoder, form: str) -> None:
    """Chooses how a SAM's vision encoder computes its attention, in place; weights are untouched.

    Args:
        encoder: transformers' SAM vision encoder.
        form: `"blocks"`, `"vectors"`, `"auto"` (vectors on a GPU and for few cells, blocks otherwise), or
            transformers' own `"sdpa"` or `"eager"`.

    Raises:
        ValueError: If there is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"attention must be one of {', '.join(FORMS)}, got '{form}'")
    stock = {"eager": SamVisionAttention, "sdpa": SamVisionSdpaAttention}
    for layer in encoder.layers:
        # The classes differ in their forward pass only, so that an adapted layer inside keeps its place.
        attention = getattr(layer.attn, "base_layer", layer.attn)
        attention.__class__ = stock.get(form, RelativeAttention)
        attention.form = form
        if form in stock:
            vars(layer).pop("window_partition", None)
            vars(layer).pop("window_unpartition", None)
        else:
            layer.window_partition, layer.window_unpartition = cut_windows, join_windows


def relative_bias(
    query: torch.Tensor, by_row: torch.Tensor, by_column: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two parts of the relative position bias.

    Args:
        query: `(B, heads, H * W, d)`, not scaled.
        by_row: `(H, H, d)`, see [`lay_out`].
        by_column: `(W, W, d)`.

    Returns:
        For each query its bias towards each row of keys, `(B, heads, H * W, H)`, and towards each column,
        `(B, heads, H * W, W)`.

    Source: Li et al., "MViTv2", 2022, equation 4, as used in SAM.
    """
    grid = query.unflatten(2, (len(by_row), len(by_column)))
    rows = torch.einsum("bnhwc,hkc->bnhwk", grid, by_row)
    columns = torch.einsum("bnhwc,wkc->bnhwk", grid, by_column)
    return rows.flatten(2, 3), columns.flatten(2, 3)


def lay_out(table: torch.Tensor, size: int, dtype: torch.dtype, share: float = 1.0) -> torch.Tensor:
    """A table of relative positions `(2 * size - 1, d)` by the places of query and key, times `share`.

    Returns:
        `(size, size, d)` of type `dtype`.

    Raises:
        ValueError: If the table is of another size.
    """
    if table.shape[0] != 2 * size - 1:
        raise ValueError(f"a table of {table.shape[0]} positions does not fit a map of {size} cells a side")
    places = torch.arange(size, device=table.device)
    return (table[places[:, None] - places[None, :] + size - 1] * share).to(dtype)


def attend_with_vectors(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    scale: float,
    more: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Attention with the bias as more channels: `[q, rows, columns]` times `[k, one-hot row, one-hot column]`.

    Every pass over a tensor of the size of the queries counts here. Query and key are each laid out by one
    concatenation, and the scale is left to the kernel.

    Args:
        query: `(B, heads, H * W, d)`.
        key: The same shape.
        value: The same shape.
        rows: Bias over scale, `(B, heads, H * W, H)`.
        columns: Bias over scale, `(B, heads, H * W, W)`.
        scale: Scale of the scores.
        more: Keys and values of tokens without a position, `(B, heads, n, d)` both.

    Returns:
        `(B, heads, H * W, d)`.
    """
    long_query, long_key = lengthen(query, key, rows, columns)
    extra = long_query.shape[-1] - query.shape[-1]
    long_value = F.pad(value, (0, extra))  # fused kernels want as many channels in all three
    if more is not None:  # no row and no column: no bias
        long_key = torch.cat([long_key, F.pad(more[0], (0, extra)).to(key.dtype)], dim=2)
        long_value = torch.cat([long_value, F.pad(more[1], (0, extra)).to(value.dtype)], dim=2)
    out = F.scaled_dot_product_attention(long_query, long_key, long_value, scale=scale)
    return out[..., : value.shape[-1]]


def lengthen(
    query: torch.Tensor, key: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys whose products hold the bias; arguments as of [`attend_with_vectors`].

    Returns:
        Both `(B, heads, H * W, d + H + W + spare)`, a multiple of 8 channels, which fused kernels want.
    """
    batch, heads, cells, depth = query.shape
    height, width = rows.shape[-1], columns.shape[-1]
    spare = -(depth + height + width) % 8
    places = _places(height, width, spare, query.dtype, query.device)
    zeros = query.new_zeros(1).expand(batch, heads, cells, spare)
    long_query = torch.cat([query, rows.to(query.dtype), columns.to(query.dtype), zeros], dim=-1)
    return long_query, torch.cat([key, places.expand(batch, heads, -1, -1)], dim=-1)


def _places(height: int, width: int, spare: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """One-hot row and one-hot column of each cell, and spare zeros: `(H * W, H + W + spare)`."""
    by_row = torch.eye(height, dtype=dtype, device=device)[:, None].expand(-1, width, -1)
    by_column = torch.eye(width + spare, dtype=dtype, device=device)[None, :width].expand(height, -1, -1)
    return torch.cat([by_row, by_column], dim=-1).flatten(0, 1)
