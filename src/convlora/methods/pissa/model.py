"""The PEFT tuner: puts PiSSA layers into a model."""

from __future__ import annotations

from typing import Any

from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import LoraLayer
from torch import nn

from convlora.methods.pissa.layer import PissaVariant, is_plain_linear


class PissaModel(LoraModel):
    """Adapts the linear layers of a model with PiSSA; PEFT's LoRA machinery does the rest."""

    def _create_and_replace(
        self, lora_config: Any, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module, *args: Any,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        base_layer = target.get_base_layer() if isinstance(target, LoraLayer) else target
        if not is_plain_linear(base_layer):
            raise ValueError(
                f"PiSSA adapts linear layers that are not quantized, but `target_modules` also matches a "
                f"{type(base_layer).__name__} named '{kwargs.get('current_key', target_name)}'."
            )
        super()._create_and_replace(lora_config, adapter_name, target, target_name, parent, *args, **kwargs)
        layer = getattr(parent, target_name)
        layer.lora_variant[adapter_name] = PissaVariant()
        layer.lora_variant[adapter_name].init(layer, adapter_name=adapter_name, config=lora_config)

    def _check_add_weighted_adapter(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            "PiSSA adapters cannot be combined by weights, because each has a start of its own. Load them as separate "
            "adapters and switch with `set_adapter`."
        )
