"""Frozen layers with a trained change of their output."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from convlora.methods.feature_tuning.config import FeatureTuningConfig

_NOT_MERGEABLE = (
    "This adapter cannot be merged into the base weights. Keep it beside the base model, or call `unload()` to get the "
    "base model back."
)


class FeatureTuningLayer(nn.Module, BaseTunerLayer):
    """A frozen layer and, by adapter, what is done to its output; see [`FeatureTuningConfig`].

    Args:
        base_layer: A linear layer, norm or convolution.
        adapter_name: Name of the first adapter.
        config: Its settings.
    """

    adapter_layer_names = ("tuned_bias", "tuned_scale", "tuned_down", "tuned_up")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: FeatureTuningConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.tuned_bias = nn.ParameterDict()
        self.tuned_scale = nn.ParameterDict()
        self.tuned_down = nn.ModuleDict()
        self.tuned_up = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.out_features, self.channels_first = output_channels(base_layer)
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: FeatureTuningConfig) -> None:
        """Adds an adapter, at the identity."""
        if config.kind == "bottleneck":
            up = nn.Linear(config.bottleneck, self.out_features)
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
            self.tuned_down[adapter_name] = nn.Linear(self.out_features, config.bottleneck)
            self.tuned_up[adapter_name] = up
        else:
            self.tuned_bias[adapter_name] = nn.Parameter(torch.zeros(self.out_features))
            if config.kind == "scale-shift":
                self.tuned_scale[adapter_name] = nn.Parameter(torch.ones(self.out_features))
        this: Any = self  # mypy takes what a module inherits from its second base for tensors
        this._move_adapter_to_device_of_base_layer(adapter_name)
        this.set_adapter(this.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The base layer's output, changed by every active adapter."""
        this: Any = self
        result: torch.Tensor = this.base_layer(x, *args, **kwargs)
        if this.disable_adapters:
            return result
        for name in this.active_adapters:
            if name in self.tuned_scale:
                result = result * self._fitted(self.tuned_scale[name], result)
            if name in self.tuned_bias:
                result = result + self._fitted(self.tuned_bias[name], result)
            if name in self.tuned_down:
                result = result + self._bottleneck(name, result)
        return result

    def _fitted(self, values: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        """One value per channel, in the type and shape that the output needs."""
        values = values.to(result.dtype)
        return values.view(-1, *[1] * (result.ndim - 2)) if self.channels_first else values

    def _bottleneck(self, name: str, result: torch.Tensor) -> torch.Tensor:
        features = result.movedim(1, -1) if self.channels_first else result
        down, up = cast("nn.Linear", self.tuned_down[name]), self.tuned_up[name]
        change: torch.Tensor = up(F.gelu(down(features.to(down.weight.dtype)))).to(result.dtype)
        return change.movedim(-1, 1) if self.channels_first else change

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuses, see the message."""
        raise ValueError(_NOT_MERGEABLE)

    def unmerge(self) -> None:
        """Nothing is ever merged."""


def output_channels(layer: nn.Module) -> tuple[int, bool]:
    """Number of channels that a layer puts out, and whether they come right after the batch.

    Raises:
        ValueError: If it is no layer with channels.
    """
    if isinstance(layer, nn.modules.conv._ConvNd):
        return layer.out_channels, True
    features = getattr(layer, "out_features", None)
    if isinstance(features, int):
        return features, False
    weight = getattr(layer, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.ndim == 1:  # a norm
        return len(weight), getattr(layer, "data_format", "channels_last") == "channels_first"
    raise ValueError(f"Feature tuning needs linear layers, norms or convolutions, not a {type(layer).__name__}.")
