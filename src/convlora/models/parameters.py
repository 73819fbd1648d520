"""Counting parameters, and keeping frozen ones in half precision."""

from __future__ import annotations

import torch
from torch import nn

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of parameters trained and in all.

    PEFT keeps the original of a module that is trained in full beside its copy. It plays no part, and is not counted.

    Args:
        model: A model, adapted by PEFT or not.
    """
    counted = [p for name, p in model.named_parameters() if ".original_module." not in name]
    return sum(p.numel() for p in counted if p.requires_grad), sum(p.numel() for p in counted)


def halve_frozen_weights(encoder: nn.Module, precision: str) -> None:
    """Keeps the frozen projections and convolutions of a vision encoder in half precision, in place.

    Mixed precision rounds these weights at every use anyway, so that results stay the same to the last bit; memory for
    the weights halves, and the rounding is done once. Norms, position tables and all that is trained stay as they are.

    Args:
        encoder: The vision encoder, adapted or not; what is trained must be settled.
        precision: `"bf16"` or `"fp16"`, in which the model is going to run; nothing is done for `"fp32"`.
    """
    dtype = _HALVES.get(precision)
    if dtype is None:
        return
    for name, module in encoder.named_modules():
        if type(module) not in (nn.Linear, nn.Conv2d) or "lora_" in name:  # quantized layers are classes of their own
            continue
        if not any(parameter.requires_grad for parameter in module.parameters()):
            module.to(dtype)
