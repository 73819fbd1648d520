"""What the layers of vision encoders are called, for methods that change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from convlora.methods.layers import Layers

MODULES_TO_SAVE = ["mask_decoder"]  # trained in full by every method
ENCODER = "vision_encoder"


@dataclass(frozen=True)
class LayerNames:
    """The names of layers by their kind, as regular expressions.

    Attributes:
        of_blocks: Names within a block.
        outside: Names within the encoder, of what lies outside of blocks.
        block: Name of a block within the encoder, without its number.
        whole: Whether there are methods for the encoder as a whole.
    """

    of_blocks: Mapping[Layers, str]
    outside: Mapping[Layers, str] = field(default_factory=dict)
    block: str = r"layers\."
    whole: bool = False

    def __call__(self, kind: Layers, blocks: Sequence[int] | None = None) -> str:
        """The layers of one kind as a regular expression, for PEFT's `target_modules`.

        Args:
            kind: Which layers.
            blocks: Numbers of the blocks, from 0. Default: all, and for `Layers.ALL` what lies outside of blocks too.

        Raises:
            LookupError: If the encoder has no such layers.
        """
        if kind == Layers.ENCODER and self.whole:
            return ENCODER
        numbers = r"\d+" if blocks is None else f"({'|'.join(map(str, blocks))})"
        names = rf"{self.block}{numbers}\.{self.of_blocks[kind]}"
        if blocks is None and kind in self.outside:
            names = f"({names}|{self.outside[kind]})"
        return rf"(.*\.)?{ENCODER}\.{names}"


sam_layers = LayerNames(
    {
        Layers.PROJECTIONS: r"attn\.qkv",  # the fused projection of query, key and value
        Layers.ATTENTION: r"attn",
        Layers.BLOCK_OUTPUTS: r"(attn\.proj|mlp\.lin2)",
        Layers.SUBLAYERS: r"(attn|mlp)",
        Layers.MLP_MAPS: r"mlp\.lin2",
        Layers.LINEAR: r"(attn\.qkv|attn\.proj|mlp\.lin1|mlp\.lin2)",
        Layers.ALL: r"(layer_norm1|layer_norm2|attn\.qkv|attn\.proj|mlp\.lin1|mlp\.lin2)",
    },
    {Layers.ALL: r"patch_embed\.projection|neck\.(conv1|conv2|layer_norm1|layer_norm2)"},
    whole=True,
)

# Of plain ViTs, whose blocks transformers builds of the same parts.
_PROJECTIONS = r"(attention|self_attn)\.(q|k|v)_proj"
_OUTPUT, _LAST = r"(attention|self_attn)\.(o|out)_proj", r"mlp\.(fc2|down_proj|weights_out)"
_NORMS, _FIRST = (
    r"(layernorm_before|layernorm_after|norm[12]|layer_norm[12])",
    r"mlp\.(fc1|gate_proj|up_proj|weights_in)",
)
vit_layers = LayerNames(
    {
        Layers.PROJECTIONS: _PROJECTIONS,
        Layers.BLOCK_OUTPUTS: f"({_OUTPUT}|{_LAST})",
        Layers.LINEAR: f"({_PROJECTIONS}|{_OUTPUT}|{_FIRST}|{_LAST})",
        Layers.ALL: f"({_NORMS}|{_PROJECTIONS}|{_OUTPUT}|{_FIRST}|{_LAST})",
    },
    block=r"model\.(.*\.)?layers?\.",
)

# Of SAM 2's Hiera, whose neck is the pyramid.
_HIERA = r"attn\.qkv", r"attn\.proj", r"mlp\.proj_out"
hiera_layers = LayerNames(
    {
        Layers.PROJECTIONS: _HIERA[0],
        Layers.BLOCK_OUTPUTS: f"({_HIERA[1]}|{_HIERA[2]})",
        Layers.MLP_MAPS: _HIERA[2],
        Layers.LINEAR: rf"({_HIERA[0]}|{_HIERA[1]}|mlp\.proj_in|{_HIERA[2]}|proj)",  # between two stages is a `proj`
        Layers.ALL: rf"(layer_norm[12]|{_HIERA[0]}|{_HIERA[1]}|mlp\.proj_in|{_HIERA[2]}|proj)",
    },
    {Layers.ALL: r"backbone\.patch_embed\.projection|neck\.convs\.\d+"},
    block=r"backbone\.blocks\.",
)

# Of SAM 3's ViT, whose neck makes a pyramid of its one map.
_OF_SAM3 = r"attention\.[qkv]_proj", r"attention\.o_proj", r"mlp\.fc2"
sam3_layers = LayerNames(
    {
        Layers.PROJECTIONS: _OF_SAM3[0],
        Layers.BLOCK_OUTPUTS: f"({_OF_SAM3[1]}|{_OF_SAM3[2]})",
        Layers.MLP_MAPS: _OF_SAM3[2],
        Layers.LINEAR: rf"({_OF_SAM3[0]}|{_OF_SAM3[1]}|mlp\.fc1|{_OF_SAM3[2]})",
        Layers.ALL: rf"(layer_norm[12]|{_OF_SAM3[0]}|{_OF_SAM3[1]}|mlp\.fc1|{_OF_SAM3[2]})",
    },
    {
        Layers.ALL: r"backbone\.embeddings\.patch_embeddings\.projection|backbone\.layer_norm"
        r"|neck\.fpn_layers\.\d+\.(scale_layers\.[02]|proj[12])"  # between the two of scale_layers is a GELU
    },
    block=r"backbone\.layers\.",
)
