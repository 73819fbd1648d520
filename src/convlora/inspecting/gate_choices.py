"""Which experts the gates choose, by layer, image and window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from convlora.inspecting.layers import encoder_of, segmenter_of


@dataclass
class LayerChoices:
    """What the gate of one layer chose.

    Attributes:
        name: Name of the layer.
        scales: Scale of each expert.
        images: For each image the best experts of its feature maps, `(rows, columns)` int64; `(1, 1)` where one choice
            holds for the whole image; None where the places of the maps are not known.
        counts: How often each expert was chosen, `(n,)`.
    """

    name: str
    scales: tuple[int, ...]
    images: list[torch.Tensor | None]
    counts: torch.Tensor

    @property
    def shares(self) -> list[float]:
        """Share of each expert in all choices."""
        shares: list[float] = (self.counts / self.counts.sum().clamp(min=1)).tolist()
        return shares


def scales_of(model: Any) -> dict[str, tuple[int, ...]]:
    """The scales of the experts, by layers that have a gate."""
    return {
        name: tuple(module.lora_experts[adapter].scales)
        for name, module in model.named_modules()
        if hasattr(module, "conv_lora_balance")
        for adapter in module.active_adapters
        if adapter in module.lora_gate
    }


def gather(model: Any, passes: Sequence[dict[str, list[torch.Tensor]]]) -> list[LayerChoices]:
    """Puts together what was chosen for single images.

    Args:
        model: The model with its adapters.
        passes: For each image what `convlora.methods.conv_lora.balance.watch_choices` kept of its pass.

    Returns:
        The layers with a gate, in order.
    """
    layers = []
    for name, scales in scales_of(model).items():
        chosen = [torch.cat(one[name]).cpu() for one in passes if one.get(name)]
        if not chosen:
            continue
        counts = torch.bincount(torch.cat(chosen).flatten(), minlength=len(scales)).double()
        size = window_grid(model, name, len(chosen[0]))
        images = [None if size is None else one[:, 0].view(size) for one in chosen]
        layers.append(LayerChoices(name, scales, images, counts))
    return layers


def window_size(model: Any) -> int | None:
    """Side of an encoder's windows in cells; None if it has none, or several."""
    vision = getattr(segmenter_of(model).config, "vision_config", None)
    size = getattr(vision, "window_size", None)
    return size if isinstance(size, int) and size > 0 and hasattr(encoder_of(model), "layers") else None


def window_grid(model: Any, name: str, maps: int) -> tuple[int, int] | None:
    """How so many feature maps of one image lie on it, (rows, columns); None if that is not known."""
    if maps == 1:
        return 1, 1
    window = window_size(model)
    if window is None:
        return None
    rows, columns = (-(-side // window) for side in segmenter_of(model).config.grid_size)
    return (rows, columns) if rows * columns == maps else None
