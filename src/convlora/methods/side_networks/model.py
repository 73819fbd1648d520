"""The PEFT tuner: puts a network beside an encoder."""

from __future__ import annotations

from torch import nn

from convlora.methods.side_networks.layer import SideNetworkLayer
from convlora.methods.wrapping_tuner import WrappingTuner


class SideNetworkModel(WrappingTuner):
    """Adds a side network. Built by [`peft.get_peft_model`] from a [`SideNetworkConfig`]."""

    prefix = "side_networks"
    tuner_layer_cls = SideNetworkLayer

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        if isinstance(child, SideNetworkLayer) and not isinstance(new_module, SideNetworkLayer):
            child.detach()
        super()._replace_module(parent, child_name, new_module, child)
