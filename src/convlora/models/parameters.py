"""Counting parameters, and keeping frozen ones in half precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.sam.modeling_sam import SamVisionEncoder

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of parameters trained and in all.

    PEFT keeps the original of a module that is trained in full beside its copy. It plays no part, and is not counted.

    Args:
        model: A model, adapted by PEFT or not.
    """
    counted = [p for name, p in model.named_parameters() if ".original_module." not in name]
    return sum(p.numel() for p in counted if p.requires_grad), sum(p.numel() for p in counted)


class HalfLayerNorm(nn.LayerNorm):
    """A layer norm that takes and gives half precision; means and deviations are in single precision inside.

    Under autocast a layer norm gives single precision, twice the bytes, which the next layer casts back.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises `(..., C)`."""
        with torch.autocast(input.device.type, enabled=False):
            return F.layer_norm(input.to(self.weight.dtype), self.normalized_shape, self.weight, self.bias, self.eps)


def halve_frozen_weights(encoder: nn.Module | None, precision: str) -> None:
    """Keeps the frozen projections and convolutions of a vision encoder in half precision, in place.

    Mixed precision rounds these weights at every use anyway, so that they change nothing; memory for them halves, and
    the rounding is done once. In bf16 the frozen norms and position tables of the blocks are kept so too. Then what
    goes from block to block, and is read and written a dozen times in each, is in half precision. (In fp16 it might
    leave the range.) What is trained stays as it is.

    Args:
        encoder: The vision encoder, adapted or not; what is trained must be settled. None: a model without.
        precision: `"bf16"` or `"fp16"`, in which the model is going to run; nothing is done for `"fp32"`.
    """
    dtype = _HALVES.get(precision)
    if dtype is None or encoder is None:
        return
    for name, module in encoder.named_modules():
        if "lora_" in name or any(parameter.requires_grad for parameter in module.parameters()):
            continue
        if type(module) in (nn.Linear, nn.Conv2d):  # quantized layers are classes of their own
            module.to(dtype)
        elif type(module) is nn.LayerNorm and dtype is torch.bfloat16:
            module.to(dtype).__class__ = HalfLayerNorm
    if isinstance(encoder, SamVisionEncoder) and dtype is torch.bfloat16:
        table = encoder.pos_embed
        if table is not None and not table.requires_grad:
            table.data = table.data.to(dtype)
