"""PiSSA's forward pass, as a variant of PEFT's LoRA layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch import nn

START_NAMES = ("lora_start_A", "lora_start_B")
"""Where a layer keeps what its matrices started with, one entry per adapter in each."""


class PissaVariant(LoraVariant):
    """Replaces LoRA's `B A x` by `(B A - B0 A0) x`, where `B0 A0` is the best approximation of the weight.

    Source: Meng et al., NeurIPS 2024, section 3.
    """

    @staticmethod
    def init(module: LoraLayer, adapter_name: str, **kwargs: Any) -> None:
        """Starts the matrices of `adapter_name`.

        Args:
            module: The LoRA layer.
            adapter_name: Name of the adapter.
            **kwargs: `config`: if it is for inference alone, the matrices are zero, because they will be loaded.

        Raises:
            ValueError: If the base weight has fewer singular values than the rank.
        """
        if not hasattr(module, START_NAMES[0]):
            module.other_param_names = module.other_param_names + START_NAMES
            module.get_delta_weight = partial(delta_weight, module)
            for name in START_NAMES:
                setattr(module, name, BufferDict({}, persistent=True))
        lora_A, lora_B = (one[adapter_name].weight for one in (module.lora_A, module.lora_B))
        weight: Any = module.get_base_layer().weight
        if not kwargs["config"].inference_mode and not weight.is_meta:
            start_A, start_B = principal(weight.detach().float(), len(lora_A), module.scaling[adapter_name])
            for own, start in ((lora_A, start_A), (lora_B, start_B)):
                own.data = start.to(own).contiguous()  # a decomposition gives columns that follow one another
        else:
            lora_A.data, lora_B.data = torch.zeros_like(lora_A), torch.zeros_like(lora_B)
        for name, value in zip(START_NAMES, (lora_A, lora_B)):
            getattr(module, name)[adapter_name] = value.detach().clone()

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Adds the update of one adapter to the base layer's output.

        Args:
            module: The LoRA layer.
            active_adapter: Name of the adapter.
            x: Input of the layer, `(..., C_in)`.
            result: Output of the base layer, `(..., C_out)`.
            **kwargs: Not used.
        """
        start_A, start_B = (getattr(module, name)[active_adapter].to(x.dtype) for name in START_NAMES)
        dropped = module.lora_dropout[active_adapter](x)
        update = module.lora_B[active_adapter](module.lora_A[active_adapter](dropped))
        return result + (update - F.linear(F.linear(x, start_A), start_B)) * module.scaling[active_adapter]

    @staticmethod
    def merge_safe(module: LoraLayer, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """The weight with the update, in new memory."""
        return orig_weight + delta_weight(module, active_adapter).to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: LoraLayer, active_adapter: str, orig_weight: torch.Tensor) -> None:
        """Adds the update to the weight."""
        orig_weight.data += delta_weight(module, active_adapter).to(orig_weight.dtype)

    @staticmethod
    def unmerge(module: LoraLayer, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """The weight without the update."""
        return orig_weight.data - delta_weight(module, active_adapter).to(orig_weight.dtype)


@torch.no_grad()
def delta_weight(module: LoraLayer, adapter: str) -> torch.Tensor:
    """`scaling * (B A - B0 A0)`, `(C_out, C_in)` in single precision."""
    lora_A, lora_B = module.lora_A[adapter].weight.float(), module.lora_B[adapter].weight.float()
    start_A, start_B = (getattr(module, name)[adapter].float() for name in START_NAMES)
    return (lora_B @ lora_A - start_B @ start_A) * module.scaling[adapter]


def principal(weight: torch.Tensor, r: int, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrices whose scaled product is nearest to a weight.

    Args:
        weight: `(C_out, C_in)`.
        r: Rank.
        scaling: What the product is multiplied by.

    Returns:
        `A0` `(r, C_in)` and `B0` `(C_out, r)`.

    Raises:
        ValueError: If the weight has fewer singular values.
    """
    if r > min(weight.shape):
        raise ValueError(f"the rank r={r} is more than the {min(weight.shape)} singular values of a layer")
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    roots = (values[:r] / scaling).sqrt()
    return roots[:, None] * right[:r], left[:, :r] * roots


def is_plain_linear(layer: nn.Module) -> bool:
    """Whether a layer has a weight of floating-point numbers to decompose, which quantized ones do not."""
    return isinstance(layer, nn.Linear) and layer.weight.is_floating_point()
