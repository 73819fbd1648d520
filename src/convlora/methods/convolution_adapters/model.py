"""The PEFT tuner: puts convolution adapters into a model."""

from __future__ import annotations

from convlora.methods.convolution_adapters.layer import ConvolutionAdapterLayer
from convlora.methods.wrapping_tuner import WrappingTuner


class ConvolutionAdapterModel(WrappingTuner):
    """Adds convolutions. Built by [`peft.get_peft_model`] from a [`ConvolutionAdapterConfig`]."""

    prefix = "conv_adapters"
    tuner_layer_cls = ConvolutionAdapterLayer

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # PEFT looks for the name at the end of a key, but here whole modules stand behind it.
        return key.replace(f".{cls.prefix}.{adapter_name}.", f".{cls.prefix}.")
