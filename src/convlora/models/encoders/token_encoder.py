"""A plain ViT as the vision encoder of a segmenter: images in, a map of embeddings out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from convlora.models.encoders.family import Family
from convlora.models.encoders.pixels import OwnNormalisation


class QueryEntry:
    """Puts queries in front of the tokens that enter a block: hook of this block.

    They come first, where the class token is: DINOv3 turns the cells by their position, and takes the last tokens for
    them. What is held is a parameter of the decoder, the same in all passes. Copies begin without.
    """

    def __init__(self) -> None:
        self.queries: torch.Tensor | None = None

    def __call__(self, block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Adds the queries to the block's first input, `(B, L, C)`."""
        if self.queries is None:
            return None
        hidden = args[0]
        rows = self.queries.to(hidden.dtype).expand(hidden.shape[0], -1, -1)
        return torch.cat([rows, hidden], dim=1), *args[1:]

    def __deepcopy__(self, memo: dict[int, Any]) -> QueryEntry:
        return memo.setdefault(id(self), QueryEntry())

    def __reduce__(self) -> tuple[type[QueryEntry], tuple[()]]:
        return QueryEntry, ()


class TokenEncoder(nn.Module):
    """transformers' own model, which sees images in its own normalisation, and the cells of its last hidden state.

    Args:
        model: transformers' model.
        family: What it is.
        mean: Mean of each channel that it expects.
        std: Their standard deviation.
    """

    def __init__(self, model: PreTrainedModel, family: Family, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        for name in family.unused:
            _make_a_buffer(model, name)
        self._family = family
        self._prefix = family.prefix_tokens(model.config)
        self._patch = int(model.config.patch_size)
        self._normalised = OwnNormalisation(mean, std)
        self._entry = QueryEntry()
        self._handles: list[Any] = []

    def let_queries_in(self, last_blocks: int) -> None:
        """Says how many of the last blocks see queries; 0: none are given."""
        for handle in self._handles:
            handle.remove()
        blocks = list(blocks_of(self.model))[-last_blocks:] if last_blocks else []
        self._handles = [block.register_forward_pre_hook(self._entry) for block in blocks[:1]]
        self._handles += [block.register_forward_pre_hook(_without_mask, with_kwargs=True) for block in blocks]

    def forward(
        self, pixel_values: torch.Tensor, queries: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Embeds images.

        Args:
            pixel_values: `(B, 3, H, W)` with ImageNet's mean and standard deviation taken out.
            queries: `(N, C)`, which go through the last blocks with the cells.

        Returns:
            `(B, C, H / patch, W / patch)`; and what became of the queries, `(B, N, C)`, if there are some.
        """
        self._entry.queries = queries  # still there when blocks are computed again in the backward pass
        height, width = (side // self._patch for side in pixel_values.shape[-2:])
        hidden = self.model(self._normalised(pixel_values), **self._family.call).last_hidden_state
        count = 0 if queries is None else len(queries)
        cells = hidden[:, count + self._prefix :].transpose(1, 2).unflatten(2, (height, width))
        return cells if queries is None else (cells, hidden[:, :count])

    @property
    def pixel_facts(self) -> dict[str, float]:
        """See [`OwnNormalisation`]."""
        return self._normalised.facts


def _without_mask(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Hook: leaves out a mask of attention.

    While a model is exported, transformers makes one that lets each token see every other. It does so before queries
    come in, so their rows would be missing.
    """
    rest = tuple(None if isinstance(one, torch.Tensor) else one for one in args[1:])
    return (args[0], *rest), {key: value for key, value in kwargs.items() if key != "attention_mask"}


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The blocks of a plain ViT of transformers, in order."""
    return next(
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and re.search(r"(^|\.)layers?$", name)
    )


def _make_a_buffer(model: nn.Module, name: str) -> None:
    """Makes a parameter a buffer of the same name, so that no method trains what would never get a gradient."""
    place, _, last = name.rpartition(".")
    module = model.get_submodule(place)
    value = getattr(module, last)
    if isinstance(value, nn.Parameter):
        delattr(module, last)
        module.register_buffer(last, value.detach())
