"""What the layers of SAM's vision encoder are called, for methods that change them."""

from __future__ import annotations

from collections.abc import Sequence

from convlora.methods.registry import Layers

MODULES_TO_SAVE = ["mask_decoder"]  # trained in full by every method

_OF_BLOCKS = {
    Layers.PROJECTIONS: r"attn\.qkv",  # the fused projection of query, key and value
    Layers.ATTENTION: r"attn",
    Layers.BLOCK_OUTPUTS: r"(attn\.proj|mlp\.lin2)",
    Layers.ALL: r"(layer_norm1|layer_norm2|attn\.qkv|attn\.proj|mlp\.lin1|mlp\.lin2)",
}
_OUTSIDE_BLOCKS = {Layers.ALL: r"patch_embed\.projection|neck\.(conv1|conv2|layer_norm1|layer_norm2)"}


def sam_layers(kind: Layers, blocks: Sequence[int] | None = None) -> str:
    """The layers of one kind as a regular expression, for PEFT's `target_modules`.

    Args:
        kind: Which layers.
        blocks: Numbers of the blocks, from 0. Default: all, and for `Layers.ALL` what lies outside of blocks too.
    """
    if kind == Layers.ENCODER:
        return "vision_encoder"
    numbers = r"\d+" if blocks is None else f"({'|'.join(map(str, blocks))})"
    names = rf"layers\.{numbers}\.{_OF_BLOCKS[kind]}"
    if blocks is None and kind in _OUTSIDE_BLOCKS:
        names = f"({names}|{_OUTSIDE_BLOCKS[kind]})"
    return rf"(.*\.)?vision_encoder\.{names}"
