"""How large the update of each layer is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from convlora.inspecting.layers import block_of, encoder_of


class UpdateSizes:
    """Sums of squares by layer, over images.

    Attributes:
        sums: Sums for the change of the output and of the base layer's output, by the name of the layer.
    """

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}

    def add(self, name: str, base: torch.Tensor, output: torch.Tensor) -> None:
        """Adds one pass through a layer."""
        both = torch.stack([(output - base).double().square().sum(), base.double().square().sum()]).cpu()
        self.sums[name] = self.sums.get(name, torch.zeros(2, dtype=torch.float64)) + both

    def ratios(self) -> dict[str, float]:
        """Root mean square of the change over that of the base layer's output, by layer."""
        return {name: float((change / base).sqrt()) if base else 0.0 for name, (change, base) in self.sums.items()}


@contextmanager
def comparing(model: Any, sizes: UpdateSizes) -> Iterator[None]:
    """Calls each adapted layer of the encoder twice in the block, as it is and without its adapter, on the same input.

    Args:
        model: The model with its adapters.
        sizes: Receives the sums.
    """

    def compare(name: str) -> Any:
        @torch.no_grad()
        def hook(layer: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            sizes.add(name, _tensor(layer.base_layer(*args, **kwargs)), _tensor(output))

        return hook

    handles = [
        module.register_forward_hook(compare(name), with_kwargs=True)
        for name, module in encoder_of(model).named_modules(prefix="vision_encoder")
        if isinstance(module, BaseTunerLayer) and module.active_adapters
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def weight_ratios(model: Any) -> dict[str, float]:
    """`||dW||_F / ||W||_F` where the update is a matrix added to a weight.

    Args:
        model: The model with its adapters.

    Returns:
        By layer for LoRA; by block, over all weights in it, for an encoder that is trained in full; empty otherwise.
    """
    found = {}
    encoder = encoder_of(model)
    if isinstance(encoder, ModulesToSaveWrapper):
        return _of_blocks(encoder)
    for name, module in encoder.named_modules(prefix="vision_encoder"):
        if not isinstance(module, LoraLayer):
            continue
        layer: Any = module
        names = [one for one in layer.active_adapters if one in layer.lora_A]
        if names and not any(one in layer.lora_variant for one in names):
            delta = sum(layer.get_delta_weight(one).double() for one in names)
            found[name] = float(delta.norm() / layer.get_base_layer().weight.double().norm())
    return found


@torch.no_grad()
def _of_blocks(encoder: Any) -> dict[str, float]:
    trained: nn.Module = encoder.modules_to_save[encoder.active_adapters[0]]
    base = dict(encoder.original_module.named_parameters())
    sums: dict[str, torch.Tensor] = {}
    for name, value in trained.named_parameters():
        block = block_of(name)
        if block is not None:
            before = base[name].double()
            both = torch.stack([(value.double() - before).square().sum(), before.square().sum()])
            key = f"vision_encoder.layers.{block}."
            sums[key] = sums.get(key, torch.zeros_like(both)) + both
    return {name: float((change / whole).sqrt()) for name, (change, whole) in sums.items()}


def _tensor(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    found: torch.Tensor = output[0]  # of a tuple, or transformers' output: the last hidden state
    return found
