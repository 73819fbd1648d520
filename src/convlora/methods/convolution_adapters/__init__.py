"""Small convolutions over feature maps, beside or within frozen modules, as one PEFT method."""

from convlora.methods.convolution_adapters.config import PEFT_TYPE, ConvolutionAdapterConfig
from convlora.methods.convolution_adapters.model import ConvolutionAdapterModel
from convlora.methods.peft_types import register_type

__all__ = ["ConvolutionAdapterConfig", "ConvolutionAdapterModel"]

register_type(PEFT_TYPE, ConvolutionAdapterConfig, ConvolutionAdapterModel)
