"""A plain ViT as the vision encoder of a segmenter: images in, a map of embeddings out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from convlora.models.encoders.family import Family
from convlora.models.encoders.pixels import OwnNormalisation


class TokenEncoder(nn.Module):
    """transformers' own model, which sees images in its own normalisation, and the cells of its last hidden state.

    Args:
        model: transformers' model.
        family: What it is.
        mean: Of the pixels that it expects, of each channel.
        std: Their standard deviation.
    """

    def __init__(self, model: PreTrainedModel, family: Family, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        for name in family.unused:
            _make_a_buffer(model, name)
        self._family = family
        self._prefix = family.prefix_tokens(model.config)
        self._patch = int(model.config.patch_size)
        self._normalised = OwnNormalisation(mean, std)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embeds images.

        Args:
            pixel_values: `(B, 3, H, W)` with ImageNet's mean and standard deviation taken out.

        Returns:
            `(B, C, H / patch, W / patch)`.
        """
        height, width = (side // self._patch for side in pixel_values.shape[-2:])
        hidden = self.model(self._normalised(pixel_values), **self._family.call).last_hidden_state
        return hidden[:, self._prefix :].transpose(1, 2).unflatten(2, (height, width))

    @property
    def pixel_facts(self) -> dict[str, float]:
        """See [`OwnNormalisation`]."""
        return self._normalised.facts


def _make_a_buffer(model: nn.Module, name: str) -> None:
    """Makes a parameter a buffer of the same name, so that no method trains what would never get a gradient."""
    place, _, last = name.rpartition(".")
    module = model.get_submodule(place)
    value = getattr(module, last)
    if isinstance(value, nn.Parameter):
        delattr(module, last)
        module.register_buffer(last, value.detach())
