"""A plain ViT as the vision encoder of a segmenter: images in, a map of embeddings out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from convlora.models.encoders.family import IMAGENET, Family


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
        # Pixels come with ImageNet's mean and deviation taken out, whatever the encoder.
        pairs = list(zip(*IMAGENET, mean, std, strict=True))
        self._scale = [its_std / own_std for _, its_std, _, own_std in pairs]
        self._shift = [(its_mean - own_mean) / own_std for its_mean, _, own_mean, own_std in pairs]

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
        """What is done to pixels, by name: part of what tells an encoder from another one."""
        numbers = {"scale": self._scale, "shift": self._shift}
        return {f"pixels.{name}.{k}": value for name, values in numbers.items() for k, value in enumerate(values)}

    def _normalised(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self._scale == [1.0] * 3 and self._shift == [0.0] * 3:
            return pixel_values
        # With numbers, channel by channel: a tensor made of them would be copied to a GPU at every call. That waits for
        # the GPU, and no recording of a pass may hold it.
        channels = zip(pixel_values.unbind(1), self._scale, self._shift, strict=True)
        return torch.stack([channel * scale + shift for channel, scale, shift in channels], dim=1)


def _make_a_buffer(model: nn.Module, name: str) -> None:
    """Makes a parameter a buffer of the same name, so that no method trains what would never get a gradient."""
    place, _, last = name.rpartition(".")
    module = model.get_submodule(place)
    value = getattr(module, last)
    if isinstance(value, nn.Parameter):
        delattr(module, last)
        module.register_buffer(last, value.detach())
