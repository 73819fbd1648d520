"""Half precision for the part of a segmenter that holds nearly all of its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convlora.models import SegmentationModel


def halve(model: SegmentationModel) -> None:
    """Lets the vision encoder, or a U-Net, compute in fp16, in place.

    The mask decoder stays in single precision: it is a few percent of a model, and makes the probabilities. So do
    LoRA's matrices and Conv-LoRA's gate, which would choose other experts.
    """
    encoder: Any = model.vision_encoder if model.vision_encoder is not None else model.network
    for name, parameter in encoder.named_parameters():
        if "lora_" not in name:
            parameter.requires_grad_(False)
            parameter.data = parameter.data.half()
    encoder.register_forward_pre_hook(_take_half)
    decoder = getattr(model, "mask_decoder", None)
    if decoder is not None:
        decoder.register_forward_pre_hook(_take_single)


def _take_half(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return _cast(inputs, torch.float16)


def _take_single(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return _cast(inputs, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        return tuple(_cast(one, dtype) for one in value)
    return value
