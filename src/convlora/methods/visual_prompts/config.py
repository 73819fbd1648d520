"""Configuration of visual prompts as a PEFT method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from convlora.methods.peft_types import PeftTypeName
from convlora.methods.wrapping_tuner import WrappingConfig

PEFT_TYPE = PeftTypeName("VISUAL_PROMPT")


@dataclass
class VisualPromptConfig(WrappingConfig):
    """Settings of deep visual prompts: trained tokens that every attention layer sees beside its input.

    Every layer has tokens of its own, and what becomes of them is dropped, as in the deep form of the paper. So all
    they do is to be attended to: they are keys and values. In windows every window sees all of them, and they have no
    position. They enter behind the norm in front of the attention, which the paper lets them pass.

    Args:
        num_tokens: Tokens per layer.
        target_modules: Names of attention modules that take `prompt_tokens`, as in PEFT.
        exclude_modules: Names of modules to leave out.
        modules_to_save: Modules trained in full and saved too.

    Raises:
        ValueError: If there is no token.

    Source: Jia et al., "Visual Prompt Tuning", ECCV 2022, section 3.2.
    """

    num_tokens: int = field(default=12, metadata={"help": "Tokens per layer."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type: Any = PEFT_TYPE
        self.require_positive("num_tokens")
