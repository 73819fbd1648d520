"""Which cell of the image a token is: the grid of a layer's tokens, from the image that the model was given.

A layer of a vision transformer sees tokens in a row, `(B, L, C)`, and nothing that says how they lie on the image.
Sixteen tokens may be 4 x 4 cells of a square image, 2 x 8 cells of an oblong one, or fifteen cells and a class token. A
wrong guess is silent: convolutions then mix cells that lie far apart. So the image's own height and width, known where
the model begins, decide. What does not fit them is refused.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from peft.utils.other import get_pattern_key
from torch import nn

from convlora.methods.conv_lora.config import ConvLoraConfig


class SeenImages(NamedTuple):
    """The images of a forward pass.

    Attributes:
        number: How many; the frames of a video count each.
        height: In pixels.
        width: In pixels.
        strides: Pixels per cell, down and to the right, in the first grid that the model makes; None: not known.
        frames: Of each video; 1 for images.
    """

    number: int
    height: int
    width: int
    strides: tuple[int, int] | None
    frames: int = 1


_now = threading.local()  # the images of this thread's forward passes, the innermost last


def images_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> SeenImages | None:
    """Finds the images among the inputs of a model: `(B, C, H, W)`, or videos `(B, T, C, H, W)`.

    They are known by the first convolution of the model, which must take their channels. None if there are none: the
    model may begin with features.
    """
    stem = next((module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))), None)
    if stem is None:
        return None
    named = [kwargs[name] for name in ("pixel_values", "pixel_values_videos", "images") if name in kwargs]
    for value in [*named, *args]:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.ndim not in (4, 5):
            continue
        if stem.in_channels not in value.shape[1:-2]:
            continue
        height, width = value.shape[-2:]
        frames = 1 if value.ndim == 4 else value.shape[1:3].numel() // stem.in_channels
        down, right = stem.stride[-2:]
        return SeenImages(value.shape[0] * frames, height, width, (int(down), int(right)), frames)
    return None


@dataclass
class TokenGrid:
    """How a layer's input `(B, L, C)` lies on the image.

    Attributes:
        layer: Name of the layer, for messages.
        size: Stated (height, width) in tokens; None: from the image.
        prefix: Tokens in front of the grid.
        suffix: Tokens behind it.
        images: Those of the last forward pass of the model; None: not known.
    """

    layer: str = ""
    size: tuple[int, int] | None = None
    prefix: int = 0
    suffix: int = 0
    images: SeenImages | None = None

    @classmethod
    def of(cls, config: ConvLoraConfig, layer: str) -> TokenGrid:
        """What a configuration says of a layer; a pattern that its name ends with counts before the rest."""

        def chosen(pattern: Mapping[str, Any], otherwise: Any) -> Any:
            return pattern.get(get_pattern_key(list(pattern), layer), otherwise)

        size = chosen(config.grid_size_pattern, config.grid_size)
        return cls(
            layer,
            None if size is None else (size[0], size[1]),
            chosen(config.num_prefix_tokens_pattern, config.num_prefix_tokens),
            chosen(config.num_suffix_tokens_pattern, config.num_suffix_tokens),
        )

    def read(self, shape: torch.Size) -> tuple[int, int]:
        """Reads the shape of an input as feature maps.

        Args:
            shape: `(B, H, W, C)`, or `(B, L, C)` with prefix and suffix among the L tokens.

        Returns:
            Height and width of the maps.

        Raises:
            ValueError: If the shape does not fit. The message holds it, the layer's name and what to set.
        """
        if len(shape) == 4:
            return shape[1], shape[2]
        if len(shape) != 3:
            raise ValueError(
                f"Conv-LoRA needs feature maps (B, H, W, C) or token grids (B, L, C), but {self._name} received an "
                f"input of shape {tuple(shape)}. Leave it out of `target_modules`."
            )
        length = shape[1] - self.prefix - self.suffix
        if self.size is not None:
            if self.size[0] * self.size[1] != length:
                raise ValueError(
                    f"Conv-LoRA was given a grid of {self.size[0]} x {self.size[1]} tokens between {self.prefix} "
                    f"prefix and {self.suffix} suffix tokens, but {self._name} received an input of shape "
                    f"{tuple(shape)}. Set `grid_size`, `num_prefix_tokens` and `num_suffix_tokens` to match it."
                )
            return self.size
        images = self._images()
        side = math.isqrt(max(length, 0))
        square = (side, side) if 0 < length == side * side else None
        if images is None:
            if square is None:
                raise ValueError(
                    f"Conv-LoRA cannot read the input of shape {tuple(shape)} of {self._name} as a square grid of "
                    f"tokens after {self.prefix} prefix tokens. Set `grid_size=(height, width)`, and "
                    "`num_prefix_tokens` if class or register tokens come first."
                )
            return square
        # Several rows for each image are windows, which are square in all models known here.
        windows = shape[0] > images.number and shape[0] % images.number == 0
        found = square if windows else None if shape[0] != images.number else grid_of(images, length)
        if found is None:
            raise ValueError(self._refusal(shape, images, length))
        return found

    @property
    def _name(self) -> str:
        return f"the layer '{self.layer}'" if self.layer else "a layer"

    def _images(self) -> SeenImages | None:
        # What checkpointing computes again has no forward pass of the whole model around it, and what is compiled
        # knows no threads: both take what the layer was told last.
        if torch.compiler.is_compiling():
            return self.images
        own: list[SeenImages | None] = getattr(_now, "images", [])
        return own[-1] if own else self.images

    def _refusal(self, shape: torch.Size, images: SeenImages, length: int) -> str:
        what = f"images of {images.height} x {images.width} pixels"
        if images.frames > 1:
            what = f"videos of {images.frames} frames of {images.height} x {images.width} pixels"
        text = (
            f"Conv-LoRA cannot read the input of shape {tuple(shape)} of {self._name} as cells of {what}: {length} "
            f"tokens after {self.prefix} prefix tokens are no grid of such an image."
        )
        rows = shape[0] == images.number
        near = [n for n in range(1, 17) if rows and n < length and grid_of(images, length - n) is not None]
        if near:
            height, width = grid_of(images, length - near[0]) or (0, 0)
            return f"{text} With num_prefix_tokens={self.prefix + near[0]} they are {height} x {width}."
        return f"{text} Set `grid_size` or `grid_size_pattern`, or leave the layer out of `target_modules`."


def grid_of(images: SeenImages, length: int) -> tuple[int, int] | None:
    """(height, width) of so many cells of equal stride that cover an image; None if there are none.

    The stride is the model's first, or doubled as often as fits, as where a pyramid grows coarser. An image that is no
    multiple of it may be cut or filled up.
    """
    down, right = images.strides or (1, 1)
    while down <= 2 * images.height or right <= 2 * images.width:
        for rounded in (math.floor, math.ceil):
            height, width = rounded(images.height / down), rounded(images.width / right)
            if height * width == length:
                return height, width
        down, right = 2 * down, 2 * right
    return None


def begin_forward(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Hook: a forward pass of the whole model begins; its layers are told of the images."""
    images = images_of(module, args, kwargs)
    for grid in _grids(module):
        grid.images = images
    if not torch.compiler.is_compiling():
        _now.images = [*getattr(_now, "images", []), images]


def end_forward(module: nn.Module, args: Any, output: Any) -> None:
    """Hook: a forward pass of the whole model is over."""
    if not torch.compiler.is_compiling():
        _now.images = getattr(_now, "images", [])[:-1]


def set_grid_size(model: nn.Module, grid_size: tuple[int, int] | None, num_prefix_tokens: int | None = None) -> None:
    """States the token grid of all Conv-LoRA layers of a model, where the image's own size does not tell it.

    Args:
        model: A model with Conv-LoRA layers.
        grid_size: (height, width) in tokens, or None for the grid of the image.
        num_prefix_tokens: Tokens in front of the grid; None leaves it as it is.
    """
    for config in getattr(model, "peft_config", {}).values():
        if isinstance(config, ConvLoraConfig):  # so that it is saved with the adapter
            config.grid_size, config.grid_size_pattern = grid_size, {}
            if num_prefix_tokens is not None:
                config.num_prefix_tokens, config.num_prefix_tokens_pattern = num_prefix_tokens, {}
    for module in model.modules():
        for settings in getattr(module, "conv_lora_settings", {}).values():
            prefix = settings.grid.prefix if num_prefix_tokens is None else num_prefix_tokens
            settings.grid = replace(settings.grid, size=grid_size, prefix=prefix)


def _grids(model: nn.Module) -> Iterator[TokenGrid]:
    for module in model.modules():
        for settings in getattr(module, "conv_lora_settings", {}).values():
            yield settings.grid
