"""Layers whose tokens are known not to lie row by row on the image."""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import nn

from convlora.methods.conv_lora.config import ConvLoraConfig
from convlora.methods.conv_lora.grid import TokenGrid


class Order(NamedTuple):
    """An order of tokens.

    Attributes:
        classes: Regular expression for the name of a class that the layer lies in.
        why: What is wrong, as the end of a sentence.
        may_be_stated: Whether a stated grid says that it is right nevertheless.
    """

    classes: str
    why: str
    may_be_stated: bool


_VISION = "^(?!.*(Vision|EncoderDecoder))"  # names of whole models hold those of both halves
ORDERS = (
    Order(r"^Hiera", "whose tokens are in the order of mask units, not of rows", False),
    Order(r"^ViTMAE(?!Decoder|For)", "which shuffles its tokens", False),
    Order(r"MaskDecoder|TwoWay", "whose inputs are prompts and image tokens side by side", False),
    Order(_VISION + ".*(Text|Bert|Roberta|Llama|QFormer|Qformer)", "which sees words or queries", True),
    Order(_VISION + ".*Decoder", "which sees queries, or cells of several grids", True),
)
"""The first whose classes match counts."""


def check_order(model: nn.Module, layer: str, config: ConvLoraConfig) -> None:
    """Refuses a layer that would be misread, when it is adapted.

    Args:
        model: The model that holds it.
        layer: Its name.
        config: Of the adapter.

    Raises:
        ValueError: If its tokens are known to be in another order; the message names the layer.
    """
    stated = TokenGrid.of(config, layer).size is not None
    parts = layer.split(".")
    for depth in range(len(parts)):
        inside = type(model.get_submodule(".".join(parts[:depth]))).__name__
        order = next((order for order in ORDERS if re.search(order.classes, inside)), None)
        if order is None or (order.may_be_stated and stated):
            continue
        remedy = "Leave it out of `target_modules`"
        if order.may_be_stated:
            remedy += ", or state its grid in `grid_size_pattern` if it has one"
        raise ValueError(
            f"Conv-LoRA cannot adapt the layer '{layer}': it is part of a {inside}, {order.why}. {remedy}."
        )
