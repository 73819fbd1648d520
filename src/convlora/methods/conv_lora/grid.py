"""Which cell of the image a token is: the grid of a layer's tokens, from the image that the model was given.

A layer of a vision transformer sees tokens in a row, `(B, L, C)`, and nothing that says how they lie on the image.
Sixteen tokens may be 4 x 4 cells of a square image, 2 x 8 cells of an oblong one, or fifteen cells and a class token. A
wrong guess is silent: convolutions then mix cells that lie far apart. So the first convolution of the model tells how
many cells it made of the image. What does not fit them is refused.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from peft.utils.other import get_pattern_key
from torch import nn

from convlora.methods.conv_lora.balance import in_backward
from convlora.methods.conv_lora.config import ConvLoraConfig


class SeenImages(NamedTuple):
    """What the first convolution of a model saw and made.

    Attributes:
        number: How many images; the frames of a video count each. None: not known, in what is compiled.
        height: In pixels.
        width: In pixels.
        rows: Cells of the convolution's output, from top to bottom.
        columns: The same from left to right.
    """

    number: int | None
    height: int
    width: int
    rows: int
    columns: int

    def grid(self, length: int) -> tuple[int, int] | None:
        """(height, width) of so many cells that cover the image; None if there are none.

        They are the convolution's own, or half as many in both directions, as often as fits, as in a pyramid that grows
        coarser. An odd row may be cut or filled up. Cells of other sizes are taken for those of a square image only.
        """
        for rounded in (math.floor, math.ceil):
            rows, columns = self.rows, self.columns
            while rows * columns > length and rows * columns > 1:
                rows, columns = max(rounded(rows / 2), 1), max(rounded(columns / 2), 1)
            if rows * columns == length:
                return rows, columns
        square = _square(length)
        return square if self.height == self.width else None


class ImageWatch:
    """Tells the layers of a model which images it sees now. Each thread has its own; copies begin without any."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._compiled: SeenImages | None = None  # what is compiled knows no threads

    @property
    def images(self) -> SeenImages | None:
        """The images of this forward pass; None if no convolution has seen any."""
        if torch.compiler.is_compiling():
            return self._compiled
        return getattr(self._own, "images", None)

    def see(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
        """Hook of the first convolution."""
        shape, made = args[0].shape, output.shape
        frames = made[2] if len(made) == 5 else 1  # the tokens of several are no cells of one image
        sizes = shape[-2], shape[-1], made[-2], made[-1]
        if torch.compiler.is_compiling():
            # Within what is compiled for any size, sizes are symbols. Counted up they are numbers, and other sizes are
            # compiled anew.
            self._compiled = SeenImages(None, *(len(list(range(size))) for size in sizes))
        elif not in_backward():
            self._own.images = SeenImages(int(shape[0] * frames), *map(int, sizes))

    def forget(self, *_: Any) -> None:
        """Hook: a forward pass of the whole model begins or is over."""
        if torch.compiler.is_compiling():
            self._compiled = None
        elif not in_backward():
            self._own.images = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ImageWatch:
        return ImageWatch()

    def __reduce__(self) -> tuple[type[ImageWatch], tuple[()]]:
        return ImageWatch, ()


def first_convolution(model: nn.Module) -> nn.Module | None:
    """The first convolution of a model that looks at images or videos; None if it has none."""
    return next(iter(first_convolutions(model)), None)


def first_convolutions(model: nn.Module) -> list[nn.Module]:
    """The same, and its copies where PEFT trains it beside adapters (`modules_to_save`)."""
    found: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            plain = re.sub(r"\.(original_module|modules_to_save\.[^.]+)", "", f".{name}")
            found.setdefault(plain, []).append(module)
    return next(iter(found.values()), [])


@dataclass
class TokenGrid:
    """How a layer's input `(B, L, C)` lies on the image.

    Attributes:
        layer: Name of the layer, for messages.
        size: Stated (height, width) in tokens; None: from the image.
        prefix: Tokens in front of the grid.
        suffix: Tokens behind it.
        watch: Knows the images; None: nobody does.
        refusal: Why tokens of this layer are no grid unless one is stated; empty: they may be one.
    """

    layer: str = ""
    size: tuple[int, int] | None = None
    prefix: int = 0
    suffix: int = 0
    watch: ImageWatch | None = None
    refusal: str = ""
    # What was read since the last backward pass, by rows and tokens; None: different grids for the same numbers.
    _read: dict[tuple[int, int], tuple[int, int] | None] = field(default_factory=dict, repr=False, compare=False)
    _went_back: bool = field(default=False, repr=False, compare=False)

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
        if self.refusal:
            raise ValueError(self.refusal)
        if torch.compiler.is_compiling():
            return self._of_images(shape, length)
        key = shape[0], shape[1]
        if in_backward():  # checkpointing computes again, and no forward pass of the whole model is around it
            self._went_back = True
            if key in self._read:
                return self._read_before(key)
        elif self._went_back:
            self._read, self._went_back = {}, False
        found = self._of_images(shape, length)
        self._read[key] = found if self._read.get(key, found) == found else None
        return found

    @property
    def _name(self) -> str:
        return f"the layer '{self.layer}'" if self.layer else "a layer"

    def _read_before(self, key: tuple[int, int]) -> tuple[int, int]:
        found = self._read[key]
        if found is None:
            raise ValueError(
                f"Conv-LoRA cannot tell which images {self._name} is computed for again: images of several shapes with "
                "as many tokens were seen before one backward pass. Call `backward` for each, or do without "
                "gradient checkpointing."
            )
        return found

    def _of_images(self, shape: torch.Size, length: int) -> tuple[int, int]:
        images = None if self.watch is None else self.watch.images
        square = _square(length)
        if images is None:
            if square is None:
                raise ValueError(
                    f"Conv-LoRA cannot read the input of shape {tuple(shape)} of {self._name} as a square grid of "
                    f"tokens after {self.prefix} prefix tokens. Set `grid_size=(height, width)`, and "
                    "`num_prefix_tokens` if class or register tokens come first."
                )
            return square
        found: tuple[int, int] | None = None
        if images.number is None:
            found = images.grid(length) or square
        elif shape[0] == images.number:
            found = images.grid(length)
        elif shape[0] > images.number and shape[0] % images.number == 0:
            found = square  # several rows for each image are windows
        if found is None:
            raise ValueError(self._misfit(shape, images, length))
        return found

    def _misfit(self, shape: torch.Size, images: SeenImages, length: int) -> str:
        text = (
            f"Conv-LoRA cannot read the input of shape {tuple(shape)} of {self._name} as cells of images of "
            f"{images.height} x {images.width} pixels: {length} tokens are no grid of such an image."
        )
        for more in range(1, 17):
            near = images.grid(length - more) if shape[0] == images.number and more < length else None
            if near is not None:
                are = "token is" if more == 1 else "tokens are"
                return (
                    f"{text} {more} {are} too many for {near[0]} x {near[1]} cells: class or register tokens in front "
                    "(`num_prefix_tokens`) or others behind (`num_suffix_tokens`). `convlora.check_grid` tests it."
                )
        return f"{text} Set `grid_size` or `grid_size_pattern`, or leave the layer out of `target_modules`."


def _square(length: int) -> tuple[int, int] | None:
    side = math.isqrt(max(length, 0))
    return (side, side) if 0 < length == side * side else None


def set_grid_size(model: nn.Module, grid_size: tuple[int, int] | None, num_prefix_tokens: int | None = None) -> None:
    """States the token grid of all Conv-LoRA layers of a model, where the image's own size does not tell it.

    Args:
        model: A model with Conv-LoRA layers.
        grid_size: (height, width) in tokens, or None for the grid of the image.
        num_prefix_tokens: Tokens in front of the grid; None leaves it as it is.

    Raises:
        ValueError: If `grid_size` is no pair.
    """
    if grid_size is not None and len(grid_size) != 2:
        raise ValueError(f"`grid_size` must be (height, width), got {grid_size!r}.")
    for config in getattr(model, "peft_config", {}).values():
        if isinstance(config, ConvLoraConfig):  # so that it is saved with the adapter
            config.grid_size, config.grid_size_pattern = grid_size, {}
            if num_prefix_tokens is not None:
                config.num_prefix_tokens, config.num_prefix_tokens_pattern = num_prefix_tokens, {}
    for module in model.modules():
        for settings in getattr(module, "conv_lora_settings", {}).values():
            prefix = settings.grid.prefix if num_prefix_tokens is None else num_prefix_tokens
            settings.grid = replace(settings.grid, size=grid_size, prefix=prefix, _read={}, _went_back=False)
