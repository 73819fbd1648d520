"""Layers whose tokens are known not to lie row by row on the image."""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import nn

from convlora.methods.conv_lora.grid import first_convolution


class Order(NamedTuple):
    """An order of tokens.

    Attributes:
        classes: Regular expression for the name of a class that the layer lies in.
        why: What is wrong, as the end of a sentence.
        always: Whether no input of such a layer is a map; otherwise only rows of tokens are none.
        of_parts: Whether it says nothing about a whole model that sees images, which is named after all its parts.
    """

    classes: str
    why: str
    always: bool = False
    of_parts: bool = False


_VISION = "^(?!.*(Vision|EncoderDecoder))"  # names of models with two halves
ORDERS = (
    Order(r"^Hiera", "whose tokens are in the order of mask units, not of rows", always=True),
    Order(r"^ViTMAE(?!Decoder|For)", "which shuffles its tokens", always=True),
    Order(r"MaskDecoder|TwoWay", "whose inputs are prompts and image tokens side by side", always=True),
    Order(r"^MobileViT", "which takes a map apart into several rows of tokens"),
    Order(r"^Siglip2Vision", "which is given patches instead of images"),
    Order(
        _VISION + ".*(Text(?![a-z])|Bert(?![a-z])|Roberta|Llama|QFormer|Qformer)",
        "which sees words or queries",
        of_parts=True,
    ),
    Order(_VISION + ".*Decoder(?![a-z])", "which sees queries, or cells of several grids", of_parts=True),
)
"""The first whose classes match counts."""


def refusal_of(model: nn.Module, layer: str) -> str:
    """Why rows of tokens of a layer are no grid; empty if they may be one.

    Args:
        model: The model that holds it.
        layer: Its name.

    Raises:
        ValueError: If no input of the layer is a map; the message names it.
    """
    parts, sees_images = layer.split("."), first_convolution(model) is not None
    for depth in range(len(parts)):
        inside = type(model.get_submodule(".".join(parts[:depth]))).__name__
        order = next((order for order in ORDERS if re.search(order.classes, inside)), None)
        if order is None or (order.of_parts and depth == 0 and sees_images):
            continue
        text = f"Conv-LoRA cannot adapt the layer '{layer}': it is part of a {inside}, {order.why}."
        if order.always:
            raise ValueError(f"{text} Leave it out of `target_modules`.")
        return f"{text} Leave it out of `target_modules`, or state its grid in `grid_size_pattern` if it has one."
    return ""
