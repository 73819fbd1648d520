"""Inputs of a pretrained vision encoder for more bands than red, green and blue.

The first three bands go into the encoder's own patch embedding, which stays as it is. Each other band gets weights of
its own in it, which are trained and saved with the adapter:

    patches = W_rgb * bands 1 to 3 + b + W_new * the other bands

`W_new` starts at zero, so that a fresh model sees what the pretrained one sees.

Of fewer than three bands the inputs that are left over get the mean of the bands: one band is a grey image.

Source: extending a pretrained patch embedding is usual where encoders meet multispectral images. timm's
`adapt_input_conv` repeats and scales the weights of RGB (https://github.com/huggingface/pytorch-image-models, file
`timm/models/_manipulate.py`); SatMAE (Cong et al., NeurIPS 2022) and Prithvi (Jakubik et al., 2023) pretrain with the
bands. Zero for what is added is the start of LoRA and ControlNet (Zhang et al., ICCV 2023). The scaled mean of the
weights of RGB as a start made no clear difference, see docs/bands.md.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

NEW_BANDS = "new_bands"  # name of the weights of the other bands, which PEFT saves
OWN = 3  # channels of every pretrained encoder


class BandConvolution(nn.Conv2d):
    """A patch embedding whose further channels have weights of their own.

    Args:
        own: The convolution of three channels; its weights are taken over, not copied.
        channels: Number of channels of the input, more than three.
    """

    def __init__(self, own: nn.Conv2d, channels: int) -> None:
        with torch.device("meta"):
            super().__init__(own.in_channels, own.out_channels, own.kernel_size, own.stride, own.padding)  # type: ignore[arg-type]
        self.weight, self.bias = own.weight, own.bias
        self.new_bands = nn.Conv2d(
            channels - own.in_channels,
            own.out_channels,
            own.kernel_size,  # type: ignore[arg-type]
            own.stride,  # type: ignore[arg-type]
            own.padding,  # type: ignore[arg-type]
            bias=False,
            device=own.weight.device,
            dtype=own.weight.dtype,
        )
        nn.init.zeros_(self.new_bands.weight)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(B, bands, H, W)` to `(B, C, h, w)`."""
        first, others = input[:, : self.in_channels], input[:, self.in_channels :]
        own = F.conv2d(first, self.weight, self.bias, self.stride, self.padding)
        new: torch.Tensor = self.new_bands(others)
        return own + new


def encoder_bands(bands: int | None) -> int:
    """Channels that an encoder is given for a number of bands: at least three."""
    return OWN if bands is None else max(OWN, bands)


def take_bands(encoder: nn.Module, channels: int) -> None:
    """Makes a vision encoder take so many channels, in place.

    Args:
        encoder: The encoder, of three channels, or changed already.
        channels: How many.

    Raises:
        ValueError: If it has no patch embedding of three channels, or one for another number of bands.
    """
    found = [(name, part) for name, part in encoder.named_modules() if isinstance(part, BandConvolution)]
    if found:
        there = OWN + found[0][1].new_bands.in_channels
        if there != channels:
            raise ValueError(f"the model has inputs for {there} bands, not {channels}; load the one it was made from")
        return
    if channels == OWN:
        return
    plain = [
        (name, part)
        for name, part in encoder.named_modules()
        if isinstance(part, nn.Conv2d) and part.in_channels == OWN
    ]
    if len(plain) != 1:
        raise ValueError("its vision encoder has no single patch embedding that could be given more bands")
    place, convolution = plain[0]
    encoder.set_submodule(place, BandConvolution(convolution, channels))
    for part in encoder.modules():
        counts: Any = part
        if getattr(part, "num_channels", None) == OWN:  # which transformers compares with what it is given
            counts.num_channels = channels


def trained_inputs(model: nn.Module) -> list[str]:
    """Names of the modules of the inputs that were added to a model, for PEFT's `modules_to_save`."""
    return [NEW_BANDS] if any(isinstance(part, BandConvolution) for part in model.modules()) else []


def spread(pixel_values: torch.Tensor, bands: int | None) -> torch.Tensor:
    """Images of one or two bands as three channels: what is missing is the mean of the bands."""
    if bands is None or bands >= OWN:
        return pixel_values
    mean = pixel_values.mean(dim=1, keepdim=True)
    return torch.cat([pixel_values, *[mean] * (OWN - bands)], dim=1)
