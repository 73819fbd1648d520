"""The PEFT tuner: puts Conv-LoRA layers into a model."""

from __future__ import annotations

from typing import Any

from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import LoraLayer
from torch import nn

from convlora.methods.conv_lora.balance import begin_forward, end_forward
from convlora.methods.conv_lora.layer import ConvLoraVariant, refuse_merge


class ConvLoraModel(LoraModel):
    """Adapts the linear layers of a model with Conv-LoRA.

    Built by [`peft.get_peft_model`] from a [`ConvLoraConfig`]; PEFT's LoRA machinery does the rest, and each new LoRA
    layer is given Conv-LoRA's forward pass.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Losses of a forward pass are forgotten when the next one starts, whatever became of them.
        self._hooks = [
            self.model.register_forward_pre_hook(begin_forward),
            self.model.register_forward_hook(end_forward, always_call=True),
        ]

    def _create_and_replace(
        self, lora_config: Any, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module, *args: Any,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        base_layer = target.get_base_layer() if isinstance(target, LoraLayer) else target
        if not _is_linear(base_layer):
            raise ValueError(
                f"Conv-LoRA adapts linear layers, but `target_modules` also matches a {type(base_layer).__name__} "
                f"named '{kwargs.get('current_key', target_name)}'. Make `target_modules` more specific."
            )
        super()._create_and_replace(lora_config, adapter_name, target, target_name, parent, *args, **kwargs)
        layer = getattr(parent, target_name)
        layer.lora_variant[adapter_name] = ConvLoraVariant()
        layer.lora_variant[adapter_name].init(layer, adapter_name=adapter_name, config=lora_config)
        layer._move_adapter_to_device_of_base_layer(adapter_name)
        layer.set_adapter(layer.active_adapters, inference_mode=lora_config.inference_mode)
        if adapter_name not in self.active_adapters:
            for name in layer.adapter_layer_names:
                if adapter_name in getattr(layer, name):
                    getattr(layer, name)[adapter_name].requires_grad_(False)

    def delete_adapter(self, adapter_name: str) -> None:
        """Deletes an adapter and what its layers remember of it."""
        super().delete_adapter(adapter_name)
        for module in self.model.modules():
            for name in ("conv_lora_settings", "conv_lora_balance"):
                getattr(module, name, {}).pop(adapter_name, None)

    def _check_merge_allowed(self) -> None:
        raise refuse_merge()

    def _check_add_weighted_adapter(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            "Conv-LoRA adapters cannot be combined by weights, because their updates are not matrices. Load them as "
            "separate adapters and switch with `set_adapter`."
        )

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> nn.Module:
        if merge:
            raise refuse_merge()
        for hook in self._hooks:
            hook.remove()
        return super()._unload_and_optionally_merge(merge, *args, **kwargs)


def _is_linear(module: nn.Module) -> bool:
    # Quantized layers of bitsandbytes and others are no subclasses of nn.Linear everywhere, but have its sizes.
    return isinstance(module, nn.Linear) or (hasattr(module, "in_features") and hasattr(module, "out_features"))
