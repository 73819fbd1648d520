"""The PEFT tuner: puts Conv-LoRA layers into a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import LoraLayer
from torch import nn

from convlora.methods.conv_lora.balance import begin_forward, end_forward
from convlora.methods.conv_lora.config import ConvLoraConfig
from convlora.methods.conv_lora.grid import ImageWatch, TokenGrid, first_convolutions
from convlora.methods.conv_lora.layer import ConvLoraVariant, refuse_merge
from convlora.methods.conv_lora.orders import refusal_of


class ConvLoraModel(LoraModel):
    """Adapts the linear layers of a model with Conv-LoRA.

    Built by [`peft.get_peft_model`] from a [`ConvLoraConfig`]; PEFT's LoRA machinery does the rest, and each new LoRA
    layer is given Conv-LoRA's forward pass.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        watch = next((grid.watch for grid in _grids(self.model) if grid.watch is not None), None) or ImageWatch()
        for grid in _grids(self.model):
            grid.watch = watch
        self._watch = watch
        # Losses of a forward pass are forgotten when the next one starts, whatever became of them. So are its images.
        self._hooks = [
            self.model.register_forward_pre_hook(begin_forward),
            self.model.register_forward_hook(end_forward, always_call=True),
            self.model.register_forward_pre_hook(watch.forget),
            self.model.register_forward_hook(watch.forget, always_call=True),
        ]
        self._hooks += [stem.register_forward_hook(watch.see) for stem in first_convolutions(self.model)]

    def _create_and_replace(
        self, lora_config: Any, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module, *args: Any,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        name = kwargs.get("current_key", args[0] if args else target_name)
        base_layer = target.get_base_layer() if isinstance(target, LoraLayer) else target
        if not _is_linear(base_layer):
            raise ValueError(
                f"Conv-LoRA adapts linear layers, but `target_modules` also matches a {type(base_layer).__name__} "
                f"named '{name}'. Make `target_modules` more specific."
            )
        refusal = refusal_of(self.model, name)
        super()._create_and_replace(lora_config, adapter_name, target, target_name, parent, *args, **kwargs)
        layer = getattr(parent, target_name)
        layer.lora_variant[adapter_name] = ConvLoraVariant()
        layer.lora_variant[adapter_name].init(layer, adapter_name=adapter_name, config=lora_config, layer=name)
        grid = layer.conv_lora_settings[adapter_name].grid
        grid.refusal, grid.watch = refusal, getattr(self, "_watch", None)  # None: while the first adapter is made
        layer.train(target.training)  # a model in evaluation mode stays there, without noise and dropout
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

    @classmethod
    def _get_adapter_state_dict(
        cls, model: nn.Module, config: Any, adapter_name: str, *args: Any, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        weights: dict[str, torch.Tensor] = super()._get_adapter_state_dict(model, config, adapter_name, *args, **kwargs)
        if _is_idle(config, weights):
            warnings.warn(_why_idle(config), UserWarning, stacklevel=4)
        return weights

    @classmethod
    def _convert_state_dict_for_initial_model(cls, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        raise ValueError(
            "Conv-LoRA adapters cannot be converted to LoRA, because their update is no matrix product. Leave out "
            "`path_initial_model_for_weight_conversion`."
        )

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


def _grids(model: nn.Module) -> Iterator[TokenGrid]:
    for module in model.modules():
        for settings in getattr(module, "conv_lora_settings", {}).values():
            yield settings.grid


def _is_idle(config: ConvLoraConfig, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether an adapter has been trained, but its gate has not: it is still where it started, at zero."""
    if config.num_experts < 2 or config.gate_scaling == "average" or config.convolution != "experts":
        return False
    gates = [value for name, value in weights.items() if ".lora_gate." in name]
    updates = [value for name, value in weights.items() if ".lora_B." in name and name.endswith(".weight")]
    known = all(value.device.type != "meta" and not hasattr(value, "full_tensor") for value in [*gates, *updates])
    return bool(gates) and known and not any(map(_is_moved, gates)) and any(map(_is_moved, updates))


def _is_moved(value: torch.Tensor) -> bool:
    return bool(value.any())


def _why_idle(config: ConvLoraConfig) -> str:
    if config.gate_scaling == "none" and not config.gate_noise:
        remedy = "With gate_noise=False and gate_scaling='none' nothing teaches it: change one of them"
    elif config.gate_scaling == "none" and not config.load_balancing_weight:
        remedy = "With load_balancing_weight=0 and gate_scaling='none' nothing teaches it: change one of them"
    else:
        remedy = "Add `convlora.load_balancing_loss(model)` to the loss of each training step"
    return (
        "The gate of this Conv-LoRA adapter is still at zero, although the adapter has been trained: all feature maps "
        f"are going to the first expert. {remedy}, and train in training mode (`model.train()`)."
    )


def _is_linear(module: nn.Module) -> bool:
    # Quantized layers of bitsandbytes and others are no subclasses of nn.Linear everywhere, but have its sizes.
    return isinstance(module, nn.Linear) or (hasattr(module, "in_features") and hasattr(module, "out_features"))
