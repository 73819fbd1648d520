"""Configuration of convolution adapters as a PEFT method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from convlora.methods.peft_types import PeftTypeName
from convlora.methods.wrapping_tuner import WrappingConfig

PEFT_TYPE = PeftTypeName("CONVOLUTION_ADAPTER")
KINDS = ("bypass", "depthwise")


@dataclass
class ConvolutionAdapterConfig(WrappingConfig):
    """Settings of methods that put a small convolution beside or within a frozen module.

    All of them start at zero: the model gives its own answers at first.

    Args:
        kind: `"bypass"`: `f(x) + s * U gelu(C gelu(D x))` for a module `f`, attention or MLP, where D goes to
            `bottleneck` channels and C is a convolution of 3 x 3 cells (Convpass). `"depthwise"`: `f(x + C x)` for a
            linear layer `f`, where C is a depthwise convolution of 3 x 3 cells.
        bottleneck: Channels inside a bypass.
        scale: s of a bypass.
        target_modules: Names of the modules, as in PEFT. They must take feature maps `(B, H, W, C)`.
        exclude_modules: Names of modules to leave out.
        modules_to_save: Modules trained in full and saved too.

    Raises:
        ValueError: If the kind is unknown, the bottleneck has no channel or the scale is not above 0.

    Source: Jie and Deng, "Convolutional Bypasses Are Better Vision Transformer Adapters", 2022; a depthwise convolution
        inside the MLP is what TopoLoRA-SAM adds to LoRA.
    """

    kind: str = field(default="bypass", metadata={"help": f"One of {', '.join(KINDS)}."})
    bottleneck: int = field(default=8, metadata={"help": "Channels inside a bypass."})
    scale: float = field(default=1.0, metadata={"help": "What a bypass adds is multiplied by this."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type: Any = PEFT_TYPE
        self.require_one_of("kind", KINDS)
        self.require_positive("bottleneck")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"`scale` must be a number above 0, got {self.scale!r}")
