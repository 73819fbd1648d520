"""The PEFT tuner: puts feature tuning layers into a model."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from convlora.methods.feature_tuning.config import FeatureTuningConfig
from convlora.methods.feature_tuning.layer import FeatureTuningLayer


class FeatureTuningModel(BaseTuner):
    """Changes the outputs of layers of a model. Built by [`peft.get_peft_model`] from a [`FeatureTuningConfig`]."""

    prefix = "tuned_"
    tuner_layer_cls = FeatureTuningLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT reads a dictionary here

    def _create_and_replace(
        self,
        peft_config: FeatureTuningConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        if isinstance(target, FeatureTuningLayer):
            target.update_layer(adapter_name, peft_config)
            return
        try:
            layer = FeatureTuningLayer(target, adapter_name, peft_config)
        except ValueError as error:
            raise ValueError(f"{error} `target_modules` matches '{current_key}'; make it more specific.") from error
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own takes the new module for a layer with a weight, which a module trained in full need not have.
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise ValueError("Feature tuning cannot be merged into the base weights. Call `unload()` instead.")
