"""A frozen encoder with a network beside it."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from convlora.methods.side_networks.config import SideNetworkConfig
from convlora.methods.side_networks.networks import NETWORKS


class SideNetworkLayer(nn.Module, BaseTunerLayer):
    """Lets a network see and change what passes through an encoder.

    The encoder's parts are called here, one after the other, so that what belongs to a batch is in the hands of its own
    call. Several threads can then share a model, and passes may overlap.

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

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        """The encoder's output.

        Args:
            pixel_values: `(B, 3, H, W)`.
            **kwargs: For the encoder; there must be none while a side network is active.

        Raises:
            ValueError: If more than one adapter is active.
            TypeError: If the encoder's own pass was asked for something more.
        """
        this: Any = self
        encoder = this.base_layer
        active = [name for name in this.active_adapters if name in self.side_networks]
        if len(active) > 1:
            raise ValueError("Only one side network can be active at a time. Choose one with `set_adapter`.")
        if not active or this.disable_adapters:
            return encoder(pixel_values, **kwargs)
        if kwargs:
            raise TypeError(f"An encoder with a side network takes pixels alone, not {', '.join(kwargs)}.")
        network: Any = self.side_networks[active[0]]
        patches = encoder.patch_embed(pixel_values)
        state = network.begin(pixel_values[:, :3], patches)  # whose frequencies are those of red, green and blue
        positions = getattr(encoder, "pos_embed", None)
        hidden = patches if positions is None else patches + positions
        for number, block in enumerate(encoder.layers):
            hidden = block(network.before_block(number, hidden, state))
            state = network.after_block(number, hidden, state)
        return BaseModelOutput(last_hidden_state=encoder.neck(network.before_neck(hidden, state)))

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuses: a network is no change of a weight."""
        raise ValueError("Side networks cannot be merged into the base weights. Call `unload()` instead.")

    def unmerge(self) -> None:
        """Nothing is ever merged."""
