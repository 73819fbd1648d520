"""The PEFT tuner: gives attention modules of a model visual prompts."""

from __future__ import annotations

from convlora.methods.visual_prompts.layer import VisualPromptLayer
from convlora.methods.wrapping_tuner import WrappingTuner


class VisualPromptModel(WrappingTuner):
    """Adds visual prompts. Built by [`peft.get_peft_model`] from a [`VisualPromptConfig`]."""

    prefix = "visual_prompts"
    tuner_layer_cls = VisualPromptLayer
