"""Pixels as an encoder was pretrained to see them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from convlora.models.encoders.family import IMAGENET


class OwnNormalisation:
    """Gives pixels another mean and standard deviation than ImageNet's, which they come with whatever the encoder.

    Args:
        mean: Mean of each channel that the encoder expects.
        std: Their standard deviation.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        pairs = list(zip(*IMAGENET, mean, std, strict=True))
        self._scale = [its_std / own_std for _, its_std, _, own_std in pairs]
        self._shift = [(its_mean - own_mean) / own_std for its_mean, _, own_mean, own_std in pairs]

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Normalises images `(B, 3, H, W)` with ImageNet's mean and standard deviation taken out.

        Bands after the third were not pretrained, and stay as they are.
        """
        if self._scale == [1.0] * 3 and self._shift == [0.0] * 3:
            return pixel_values
        # With numbers, channel by channel: a tensor made of them would be copied to a GPU at every call. That waits for
        # the GPU, and no recording of a pass may hold it.
        first, more = pixel_values.unbind(1)[:3], pixel_values[:, 3:]
        channels = zip(first, self._scale, self._shift, strict=True)
        normalised = torch.stack([channel * scale + shift for channel, scale, shift in channels], dim=1)
        return torch.cat([normalised, more], dim=1) if more.shape[1] else normalised

    @property
    def facts(self) -> dict[str, float]:
        """What is done to pixels, by name: part of what tells an encoder from another one."""
        numbers = {"scale": self._scale, "shift": self._shift}
        return {f"pixels.{name}.{k}": value for name, values in numbers.items() for k, value in enumerate(values)}
