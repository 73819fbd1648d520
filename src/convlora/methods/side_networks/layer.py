"""A frozen encoder with a network beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from convlora.methods.side_networks.config import SideNetworkConfig
from convlora.methods.side_networks.networks import NETWORKS


class SideNetworkLayer(nn.Module, BaseTunerLayer):
    """Lets a network see and change what passes through an encoder, by hooks on its parts.

    Args:
        base_layer: The encoder, see [`SideNetworkConfig`].
        adapter_name: Name of the first adapter.
        config: Its settings.

    Raises:
        ValueError: If the module is no such encoder.
    """

    adapter_layer_names = ("side_networks",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: SideNetworkConfig) -> None:
        super().__init__()
        if not all(hasattr(base_layer, part) for part in ("patch_embed", "layers", "neck")):
            raise ValueError(
                f"A side network needs an encoder with patch_embed, layers and neck, not {type(base_layer).__name__}."
            )
        self.base_layer = base_layer
        self.side_networks = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        # Hooks stay until the adapter is unloaded: with checkpointing blocks run again after the forward pass.
        self._network: list[Any] = []  # in a list, so that it is no module of this one twice
        self._hooks = self._attach()
        self.update_layer(adapter_name, config)

    def __getattr__(self, name: str) -> Any:
        """Attributes of the encoder."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)

    def update_layer(self, adapter_name: str, config: SideNetworkConfig) -> None:
        """Adds the network of an adapter."""
        this: Any = self
        convolution = next(part for part in this.base_layer.patch_embed.modules() if isinstance(part, nn.Conv2d))
        self.side_networks[adapter_name] = NETWORKS[config.kind](
            convolution.out_channels, len(this.base_layer.layers), config.reduction, convolution.kernel_size[0]
        )
        this._move_adapter_to_device_of_base_layer(adapter_name)
        this.set_adapter(this.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The encoder's output.

        Raises:
            ValueError: If more than one adapter is active.
        """
        this: Any = self
        active = [name for name in this.active_adapters if name in self.side_networks]
        if len(active) > 1:
            raise ValueError("Only one side network can be active at a time. Choose one with `set_adapter`.")
        self._network[:] = [self.side_networks[active[0]]] if active and not this.disable_adapters else []
        return this.base_layer(*args, **kwargs)

    def detach(self) -> None:
        """Takes the hooks off the encoder."""
        self._network.clear()
        for hook in self._hooks:
            hook.remove()

    def _attach(self) -> list[Any]:
        base: Any = self.base_layer
        hooks = [
            base.patch_embed.register_forward_hook(_Begin(self._network)),
            base.neck.register_forward_pre_hook(_BeforeNeck(self._network)),
        ]
        for number, block in enumerate(base.layers):
            hooks.append(block.register_forward_pre_hook(_BeforeBlock(self._network, number)))
            hooks.append(block.register_forward_hook(_AfterBlock(self._network, number)))
        return hooks

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuses: a network is no change of a weight."""
        raise ValueError("Side networks cannot be merged into the base weights. Call `unload()` instead.")

    def unmerge(self) -> None:
        """Nothing is ever merged."""


@dataclass
class _Hook:
    """A hook that finds the network in use; an object and no function, so that a copied model gets its own."""

    network: list[Any]
    number: int = 0


class _Begin(_Hook):
    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], patches: torch.Tensor) -> None:
        if self.network:
            self.network[0].begin(inputs[0], patches)


class _BeforeNeck(_Hook):
    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return (self.network[0].before_neck(inputs[0]), *inputs[1:]) if self.network else None


class _BeforeBlock(_Hook):
    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return (self.network[0].before_block(self.number, inputs[0]), *inputs[1:]) if self.network else None


class _AfterBlock(_Hook):
    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self.network:
            self.network[0].after_block(self.number, output[0] if isinstance(output, tuple) else output)
