"""The PEFT tuner: puts feature tuning layers into a model."""

from __future__ import annotations

from typing import Any

from torch import nn

from convlora.methods.feature_tuning.layer import FeatureTuningLayer
from convlora.methods.wrapping_tuner import WrappingTuner


class FeatureTuningModel(WrappingTuner):
    """Changes the outputs of layers of a model. Built by [`peft.get_peft_model`] from a [`FeatureTuningConfig`]."""

    prefix = "tuned_"
    tuner_layer_cls = FeatureTuningLayer

    def _create_and_replace(
        self, peft_config: Any, adapter_name: str, target: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        base = target.base_layer if isinstance(target, FeatureTuningLayer) else target
        if peft_config.kind == "bias" and getattr(base, "bias", None) is None:
            return  # what has no bias gets none
        super()._create_and_replace(peft_config, adapter_name, target, *args, **kwargs)
