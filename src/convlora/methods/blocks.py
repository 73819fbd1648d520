"""The blocks of a vision encoder by their number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

_LISTS = "(?:layers?|blocks)"  # what lists of blocks are called


def number_of_blocks(model: nn.Module) -> int:
    """Length of the longest list of blocks called `layers`, `layer` or `blocks`."""
    numbers = [int(found[1]) for name, _ in model.named_modules() if (found := re.search(rf"\b{_LISTS}\.(\d+)$", name))]
    return max(numbers, default=-1) + 1


def other_prefixes(usual: int, of_blocks: Mapping[int, int], encoder: str) -> dict[str, Any]:
    """What a `ConvLoraConfig` needs to know of blocks that have more tokens in front of those of the image.

    Args:
        usual: Tokens in front in the other blocks.
        of_blocks: Tokens in front by the number of the block.
        encoder: Name of the encoder.
    """
    pattern = {
        rf"{encoder}\.(.*\.)?{_LISTS}\.{block}\..*": tokens for block, tokens in of_blocks.items() if tokens != usual
    }
    return {"num_prefix_tokens_pattern": pattern} if pattern else {}
