"""Short names of an encoder's layers, and its model without PEFT's wrapping."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from peft import PeftModel

_BLOCK = re.compile(r"\b(?:layers?|blocks)\.(\d+)\b\.?(.*)$")
_OF_PEFT = re.compile(r"(base_layer|original_module|modules_to_save\.\w+)\.?")


def segmenter_of(model: Any) -> Any:
    """The segmenter inside a model with adapters."""
    return model.base_model.model if isinstance(model, PeftModel) else model


def encoder_of(model: Any) -> Any:
    """Its vision encoder."""
    return segmenter_of(model).vision_encoder


def without_adapters(model: Any, base: bool) -> AbstractContextManager[Any]:
    """A block in which the encoder is the base model's, if `base` is true."""
    return model.disable_adapter() if base and isinstance(model, PeftModel) else nullcontext()


def block_of(name: str) -> int | None:
    """The number of the block that a layer lies in, from 0; None: it lies in none."""
    found = _BLOCK.search(name)
    return int(found[1]) if found else None


def is_block(name: str) -> bool:
    """Whether a module of this name is a whole block."""
    found = _BLOCK.search(name)
    return found is not None and not found[2]


def short_names(names: Sequence[str]) -> list[str]:
    """Names for people, such as `1` or `1 q_proj`: the block, from 1, and the layer where a block has several."""
    found = [_BLOCK.search(name) for name in names]
    numbers = [match[1] for match in found if match]
    alone = len(set(numbers)) == len(numbers)
    short = []
    for name, match in zip(names, found, strict=True):
        rest = _OF_PEFT.sub("", match[2] if match else name.rpartition("vision_encoder.")[2]).strip(".")
        parts = ([str(int(match[1]) + 1)] if match else []) + ([] if match and alone else [rest])
        short.append(" ".join(part for part in parts if part) or "encoder")
    return short
