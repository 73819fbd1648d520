"""The PEFT tuner: puts a network beside an encoder."""

from __future__ import annotations

from convlora.methods.side_networks.layer import SideNetworkLayer
from convlora.methods.wrapping_tuner import WrappingTuner


class SideNetworkModel(WrappingTuner):
    """Adds a side network. Built by [`peft.get_peft_model`] from a [`SideNetworkConfig`]."""

    prefix = "side_networks"
    tuner_layer_cls = SideNetworkLayer

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # PEFT looks for the name at the end of a key, but here whole modules stand behind it.
        return key.replace(f".{cls.prefix}.{adapter_name}.", f".{cls.prefix}.")
