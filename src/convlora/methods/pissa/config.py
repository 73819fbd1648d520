"""Configuration of PiSSA as a PEFT method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft import LoraConfig

from convlora.methods.peft_types import PeftTypeName

PEFT_TYPE = PeftTypeName("PISSA")


@dataclass
class PissaConfig(LoraConfig):
    """Settings of PiSSA: LoRA whose matrices start with the largest singular values of the frozen weight.

    PEFT's own PiSSA (`LoraConfig(init_lora_weights="pissa")`) takes `B0 A0` out of the base weight. Then neither
    `disable_adapter` nor `unload` gives the base model back. Here the base weight stays, and the layer takes the start
    off again:

        y = W x + bias + (lora_alpha / r) * (B A - B0 A0) x

    This is the same function with the same gradients. `A0` and `B0` are saved with the adapter, which is twice as large
    for it. Every argument of [`peft.LoraConfig`] that concerns linear layers is valid, except other ways to start and
    other variants of LoRA.

    Source: Meng et al., "PiSSA: Principal Singular Values and Singular Vectors Adaptation", NeurIPS 2024, section 3.

    Raises:
        ValueError: If it is combined with another variant.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type: Any = PEFT_TYPE
        if self.init_lora_weights is not True or self.use_dora or self.lora_bias:
            raise ValueError("PissaConfig: init_lora_weights, use_dora and lora_bias must be left at their defaults.")
