"""How far the heads of a vision encoder look: the mean distance between a query's cell and the cells it attends to.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, appendix D.7; Raghu et al., "Do Vision
Transformers See Like Convolutional Neural Networks?", NeurIPS 2021, section 3; Zhong et al., ICLR 2024, figure 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.sam.modeling_sam import SamVisionAttention, SamVisionLayer

from convlora.inspecting.layers import block_of, encoder_of, segmenter_of
from convlora.models.attention import lay_out, relative_bias
from convlora.models.encoders.token_encoder import TokenEncoder
from convlora.models.windows import cut_windows

BLOCK_SCORES = 1 << 21  # held at a time
_NAME = "convlora_distances"

# Where the queries and keys of plain ViTs go in this thread; nowhere outside of a measurement.
_receiver: ContextVar[Any] = ContextVar("receiver", default=None)


def distances_of(
    query: torch.Tensor,
    key: torch.Tensor,
    size: tuple[int, int],
    scale: float,
    bias: tuple[torch.Tensor, torch.Tensor] | None = None,
    inside: torch.Tensor | None = None,
) -> torch.Tensor:
    """The attention-weighted distance of each query, for some queries at a time: no whole attention matrix exists.

    The distance is Euclidean, between the centres of cells. Attention to cells outside of the image, which fill up
    windows, is left out, and the rest is scaled to a sum of 1.

    Args:
        query: `(M, heads, H * W, d)`.
        key: The same shape.
        size: (H, W).
        scale: What products of query and key are multiplied by.
        bias: Bias of each query: for each row of keys `(M, heads, H * W, H)`, for each column `(M, heads, H * W, W)`.
        inside: `(M, H * W)`, whether a cell lies in the image. Default: all do.

    Returns:
        In cells, `(M, heads, H * W)`, nan for queries outside of the image.
    """
    maps, heads, cells, _ = query.shape
    height, width = size
    grid = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack(grid, dim=-1).flatten(0, 1).to(query.device, torch.float32)  # (H * W, 2)
    out = query.new_empty(maps, heads, cells, dtype=torch.float32)
    step = max(1, BLOCK_SCORES // (heads * cells))
    for index in range(maps):
        for start in range(0, cells, step):
            part = slice(start, start + step)
            scores = scale * query[index, :, part].float() @ key[index].float().transpose(1, 2)  # (heads, q, H * W)
            if bias is not None:
                rows, columns = (one[index, :, part].float() for one in bias)
                scores = scores + (rows[..., :, None] + columns[..., None, :]).flatten(2)
            if inside is not None:
                scores = scores.masked_fill(~inside[index], -torch.inf)
            distances = torch.cdist(places[part], places, compute_mode="donot_use_mm_for_euclid_dist")
            out[index, :, part] = (torch.softmax(scores, dim=-1) * distances).sum(dim=-1)
    return out if inside is None else out.masked_fill(~inside[:, None], torch.nan)


class AttentionDistances:
    """Sums of distances by block, over images.

    Attributes:
        sums: Sum for each head of a block, `(heads,)`, by the number of the block from 0.
        counts: Queries in it.
    """

    def __init__(self) -> None:
        self.sums: dict[int, torch.Tensor] = {}
        self.counts: dict[int, int] = {}

    def add(self, block: int, distances: torch.Tensor) -> None:
        """Adds what [`distances_of`] returned."""
        known = ~distances[:, 0].isnan()
        total = distances.nan_to_num().double().sum(dim=(0, 2)).cpu()
        self.sums[block] = self.sums.get(block, torch.zeros_like(total)) + total
        self.counts[block] = self.counts.get(block, 0) + int(known.sum())

    def means(self) -> dict[int, list[float]]:
        """Mean distance of each head in cells, by block."""
        return {block: (self.sums[block] / self.counts[block]).tolist() for block in sorted(self.sums)}


def can_listen(model: Any) -> bool:
    """Whether the attention of a model's encoder is known: that of SAM, SAM-HQ and plain ViTs."""
    return any(isinstance(module, (SamVisionAttention, TokenEncoder)) for module in encoder_of(model).modules())


@contextmanager
def listening(model: Any, distances: AttentionDistances) -> Iterator[None]:
    """Measures the attention of all forward passes within the block.

    With SAM, attention within windows counts cells of the same window. In plain ViTs attention to and of tokens that
    are no cells (class and register tokens, queries) is left out.

    Args:
        model: A segmenter, with or without adapters.
        distances: Receives the distances.
    """
    with ExitStack() as stack:
        names = {}
        for name, module in encoder_of(model).named_modules():
            if isinstance(module, SamVisionLayer):
                _listen_to_sam(stack, module, block_of(f"{name}."), distances)
            elif isinstance(module, TokenEncoder) and isinstance(module.model, PreTrainedModel):
                stack.enter_context(_own_function(module.model))
            block = block_of(name)
            if block is not None:
                names[id(module)] = block
        segmenter = segmenter_of(model)
        token = _receiver.set((names, segmenter.prefix_tokens_of, segmenter.config, distances))
        stack.callback(_receiver.reset, token)
        yield


def _listen_to_sam(stack: ExitStack, layer: nn.Module, block: int | None, distances: AttentionDistances) -> None:
    attention = next(part for part in layer.modules() if isinstance(part, SamVisionAttention))
    size: list[tuple[int, int]] = []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        size[:] = [(hidden.shape[1], hidden.shape[2])]

    def look(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        window = int(layer.window_size)  # type: ignore[arg-type]
        side = (window, window) if window else size[0]
        # A call for tokens that are no cells, as of visual prompts, has another shape.
        if block is not None and tuple(output.shape[1:3]) == side:
            distances.add(block, _of_sam(attention, output, size[0], window))

    for handle in (
        layer.register_forward_pre_hook(begin, with_kwargs=True),
        attention.qkv.register_forward_hook(look),
    ):
        stack.callback(handle.remove)


@torch.no_grad()
def _of_sam(attention: Any, qkv: torch.Tensor, size: tuple[int, int], window: int) -> torch.Tensor:
    """The distances within maps whose queries, keys and values are `(M, H, W, 3 * C)`."""
    maps, height, width, _ = qkv.shape
    parts = qkv.float().view(maps, height * width, 3, attention.num_attention_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, _ = parts.unbind(0)
    bias = None
    if attention.use_rel_pos:
        tables = ((attention.rel_pos_h, height), (attention.rel_pos_w, width))
        bias = relative_bias(query, *(lay_out(table, side, torch.float32) for table, side in tables))
    inside = None
    if window and (size[0] % window or size[1] % window):
        ones = torch.ones(1, *size, 1, device=qkv.device)
        one_image = cut_windows(ones, window)[0].flatten(1) > 0
        inside = one_image.repeat(maps // len(one_image), 1)
    return distances_of(query, key, (height, width), attention.scale, bias, inside)


@contextmanager
def _own_function(model: PreTrainedModel) -> Iterator[None]:
    """Lets transformers call our attention function, which sees queries and keys with their positions in them."""
    AttentionInterface.register(_NAME, _attend)
    before: Any = model.config._attn_implementation
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attend(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **kwargs: Any
) -> Any:
    received = _receiver.get()
    if received is not None:
        names, prefix_of, config, distances = received
        height, width = config.grid_size
        prefix = prefix_of(names[id(module)]) if id(module) in names else 0
        if id(module) in names and query.shape == key.shape and query.shape[2] == prefix + height * width:
            scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
            with torch.no_grad():
                found = distances_of(query[:, :, prefix:], key[:, :, prefix:], (height, width), scale)
            distances.add(names[id(module)], found)
    return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
