"""Frozen modules with a small convolution beside or within them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from convlora.methods.convolution_adapters.config import ConvolutionAdapterConfig


class Bypass(nn.Module):
    """`s * U gelu(C gelu(D x))`, `(B, H, W, C)` to the same, zero at first.

    Args:
        width: Channels C.
        bottleneck: Channels inside.
        scale: s.
    """

    def __init__(self, width: int, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, bottleneck)
        self.middle = nn.Conv2d(bottleneck, bottleneck, 3, padding=1)
        self.up = nn.Linear(bottleneck, width)
        nn.init.dirac_(self.middle.weight)  # as the authors' code: at first each cell sees itself only
        for values in (self.middle.bias, self.up.weight, self.up.bias):
            if values is not None:
                nn.init.zeros_(values)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """What is added to the output of the module."""
        inside = F.gelu(self.down(maps.to(self.down.weight.dtype)))
        inside = self.middle(inside.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        change: torch.Tensor = self.scale * self.up(F.gelu(inside))
        return change.to(maps.dtype)


class Depthwise(nn.Module):
    """A depthwise convolution of 3 x 3 cells, `(B, H, W, C)` to the same, zero at first.

    Args:
        width: Channels C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1, groups=width)
        for values in self.convolution.parameters():
            nn.init.zeros_(values)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """What is added to the input of the layer."""
        x = maps.to(self.convolution.weight.dtype).permute(0, 3, 1, 2)
        change: torch.Tensor = self.convolution(x).permute(0, 2, 3, 1)
        return change.to(maps.dtype)


class ConvolutionAdapterLayer(nn.Module, BaseTunerLayer):
    """A frozen module and, by adapter, a convolution; see [`ConvolutionAdapterConfig`].

    Args:
        base_layer: Attention or an MLP for a bypass, a linear layer for a depthwise convolution.
        adapter_name: Name of the first adapter.
        config: Its settings.

    Raises:
        ValueError: If there is no linear layer in it.
    """

    adapter_layer_names = ("conv_adapters",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: ConvolutionAdapterConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.conv_adapters = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.width = _input_channels(base_layer)
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: ConvolutionAdapterConfig) -> None:
        """Adds an adapter, at zero."""
        this: Any = self  # mypy takes what a module inherits from its second base for tensors
        self.conv_adapters[adapter_name] = (
            Bypass(self.width, config.bottleneck, config.scale) if config.kind == "bypass" else Depthwise(self.width)
        )
        this._move_adapter_to_device_of_base_layer(adapter_name)
        this.set_adapter(this.active_adapters, inference_mode=config.inference_mode)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The base module's output, with what all active adapters add.

        Args:
            hidden_states: `(B, H, W, C)`: whole maps, or windows of them.
            *args: For the base module.
            **kwargs: For the base module.

        Raises:
            ValueError: If the input is no feature map.
        """
        this: Any = self
        active = [] if this.disable_adapters else [n for n in this.active_adapters if n in self.conv_adapters]
        if active and hidden_states.ndim != 4:
            raise ValueError(
                f"Convolution adapters need feature maps (B, H, W, C), not an input of shape "
                f"{tuple(hidden_states.shape)}. Leave the module out of `target_modules`."
            )
        adapters = [self.conv_adapters[name] for name in active]
        within = sum((one(hidden_states) for one in adapters if isinstance(one, Depthwise)), hidden_states)
        result = this.base_layer(within, *args, **kwargs)
        output = result[0] if isinstance(result, tuple) else result  # attention gives its weights, too
        output = sum((one(hidden_states).to(output.dtype) for one in adapters if isinstance(one, Bypass)), output)
        return (output, *result[1:]) if isinstance(result, tuple) else output

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuses: a convolution is no change of a weight."""
        raise ValueError("Convolution adapters cannot be merged into the base weights. Call `unload()` instead.")

    def unmerge(self) -> None:
        """Nothing is ever merged."""


def _input_channels(module: nn.Module) -> int:
    """Channels that go into the first linear layer of a module.

    Raises:
        ValueError: If there is none.
    """
    for layer in module.modules():
        width = getattr(layer, "in_features", None)
        if isinstance(width, int):
            return width
    raise ValueError(f"Convolution adapters need modules with linear layers, not a {type(module).__name__}.")
