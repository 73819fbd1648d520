"""Visual prompt tuning as a PEFT method, for attention that reads extra tokens."""

from convlora.methods.peft_types import register_type
from convlora.methods.visual_prompts.config import PEFT_TYPE, VisualPromptConfig
from convlora.methods.visual_prompts.model import VisualPromptModel

__all__ = ["VisualPromptConfig", "VisualPromptModel"]

register_type(PEFT_TYPE, VisualPromptConfig, VisualPromptModel)
