"""A detail branch: what is thinner than SAM's patches, seen and drawn.

SAM reads patches of 16 x 16 pixels and draws masks at a quarter of the image's size. Whatever is thinner than that is
lost before the mask decoder sees it, however good the encoder is. The branch is a small convolutional pyramid over the
pixels, from half of the image's size (or all of it) down to the grid of the image embedding. There it meets the
embedding; on its way back up it meets the decoder's upscaled features. It ends in finer mask features. A mask stays
what it is in SAM, the product of a token's kernel and features, so that every head shares the branch:

    mask = enlarge(kernel . features of the decoder) + (kernel . W + v) . features of the branch

`W` starts at zero, so that a fresh model draws SAM's own masks. So does `v`, which the mask tokens of several classes
have each of their own: their kernels begin alike and grow apart slowly, but all classes have to be told apart by the
same features from the first step on. (On street scenes it was worth 0.03 of mean IoU.)

A branch that ends at the image's full size has the fewest channels there. For several classes that is too little to
tell them apart, so their masks are drawn with the features at half of the size too, by kernels of the same form. (On
drawn towns it was worth 0.04 of mean IoU. Cracks and nuclei, single masks, did not change.)

Convolutions are followed by group normalisation, which depends neither on the batch nor on averages over past ones:
batches of one image are common here. (Weight standardisation beside it cost 0.01 to 0.02 on nuclei and brought nothing
elsewhere.)

Source: the idea of convolutional detail beside a plain ViT is that of ViT-Adapter (Chen et al., ICLR 2023), ViTMatte
(Yao et al., 2024) and SAM-HQ (Ke et al., NeurIPS 2023); the pyramid is a U-Net (Ronneberger et al., MICCAI 2015) with
residual blocks (He et al., CVPR 2016) and group normalisation (Wu and He, ECCV 2018). The design and the code are this
package's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS = (16, 32, 64, 96, 128)  # channels at full size, half, a quarter, an eighth and a sixteenth
FINEST = {"none": None, "half": 1, "full": 0}  # the setting `detail`, and the first of these levels
# Ends of names; what was saved before does without them, as if they were zero.
CAME_LATER = (
    "detail.token_kernels",
    "detail.half_project.weight",
    "detail.half_token_kernels",
    *(f".second.{name}" for name in ("0.weight", "1.weight", "1.bias")),
)
CELL = 16  # pixels of a cell of the coarsest level
_GROUP = 8  # channels that are normalised together


def _at(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps `(B, C, h, w)` at a size."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _normalized(channels: int, previous: int, kernel_size: int = 3) -> nn.Sequential:
    """A convolution to `channels` and its normalisation."""
    convolution = nn.Conv2d(previous, channels, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(channels // _GROUP, channels))


class SingleConvolution(nn.Module):
    """One 3x3 convolution, for the finest level: its maps are what the branch spends its memory on."""

    def __init__(self, previous: int, channels: int) -> None:
        super().__init__()
        self.conv = _normalized(channels, previous)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, C_in, h, w)` to `(B, C_out, h, w)`."""
        return F.relu_(self.conv(x))


class TwoConvolutions(SingleConvolution):
    """A second one beside a shortcut, for the image's full size: worth 0.004 to 0.008 of IoU on cracks and nuclei."""

    def __init__(self, previous: int, channels: int) -> None:
        super().__init__(previous, channels)
        self.second = _normalized(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds to what the first one finds."""
        x = super().forward(x)
        return F.relu_(self.second(x) + x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, `(B, C_in, h, w)` to `(B, C_out, h, w)`."""

    def __init__(self, previous: int, channels: int) -> None:
        super().__init__()
        self.conv1 = _normalized(channels, previous)
        self.conv2 = _normalized(channels, channels)
        self.shortcut = nn.Identity() if previous == channels else _normalized(channels, previous, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds to the shortcut what the convolutions find."""
        return F.relu_(self.conv2(F.relu_(self.conv1(x))) + self.shortcut(x))


class DetailBranch(nn.Module):
    """Finer mask features from pixels, image embedding and the decoder's features.

    Args:
        embedding_channels: Channels of the image embedding, whose cells are 16 pixels wide.
        mask_channels: Channels of the decoder's mask features.
        finest: 0 to begin and end at the image's own size, 1 at half of it.
        widths: Channels of the levels, see [`WIDTHS`].
        tokens: Number of mask tokens of several classes; 0 for a single mask.
        channels: Number of channels of the images.
    """

    def __init__(
        self,
        embedding_channels: int,
        mask_channels: int,
        *,
        finest: int = 1,
        widths: Sequence[int] = WIDTHS,
        tokens: int = 0,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.finest = finest
        self.channels = channels
        levels = list(widths[finest:])
        stem = channels * 4**finest  # pixels that fall together are put side by side
        block = SingleConvolution if finest else TwoConvolutions
        self.down = nn.ModuleList([block(stem, levels[0])])
        self.down.extend([ResidualBlock(a, b) for a, b in pairwise(levels)])
        self.embedding = _normalized(levels[-1], embedding_channels, 1)
        self.meet = ResidualBlock(levels[-1], levels[-1])
        # From here on the coarse levels come first. What comes up is added to what went down.
        self.lateral = nn.ModuleList([_normalized(a, b, 1) for a, b in reversed(list(pairwise(levels)))])
        self.up = nn.ModuleList([ResidualBlock(width, width) for width in reversed(levels[1:-1])])
        self.up.append(block(levels[0], levels[0]))
        self.mask_features = _normalized(widths[2], mask_channels, 1)  # where they are, at a quarter of the size
        self.project = nn.Linear(levels[0], mask_channels, bias=False)
        nn.init.zeros_(self.project.weight)
        self.token_kernels: nn.Parameter | None = None
        self.half_width = 0 if finest else levels[1]  # channels at half of the size, for several classes
        self.half_project: nn.Linear | None = None
        self.half_token_kernels: nn.Parameter | None = None
        self.use_tokens(tokens)

    def use_tokens(self, tokens: int) -> None:
        """Gives so many mask tokens vectors of their own, zero for now."""
        weight = self.project.weight
        self.token_kernels = nn.Parameter(weight.new_zeros(tokens, weight.shape[1])) if tokens else None
        if not (tokens and self.half_width):
            self.half_project = self.half_token_kernels = None
            return
        self.half_token_kernels = nn.Parameter(weight.new_zeros(tokens, self.half_width))
        if self.half_project is None:  # kept for other classes, as `project` is
            self.half_project = nn.Linear(self.half_width, len(weight), bias=False).to(weight)
            nn.init.zeros_(self.half_project.weight)

    def forward(
        self, pixel_values: torch.Tensor, embeddings: torch.Tensor, mask_features: torch.Tensor
    ) -> list[torch.Tensor]:
        """Computes the features.

        Args:
            pixel_values: `(B, channels, H, W)`.
            embeddings: `(B, C, h, w)`, usually of H / 16 x W / 16 cells; other grids are interpolated.
            mask_features: `(B, C / 8, 4h, 4w)`.

        Returns:
            `(B, widths[finest], H / 2^finest, W / 2^finest)`, H and W rounded up to whole cells. For the tokens of
            several classes and a branch at full size, `(B, widths[1], H / 2, W / 2)` too.
        """
        height, width = pixel_values.shape[-2:]
        # Where the encoder's patches are not 16 pixels wide, all maps are stretched to whole cells of the same image.
        cells = math.ceil(height / CELL), math.ceil(width / CELL)
        pixel_values = _at(pixel_values, (CELL * cells[0], CELL * cells[1]))
        embeddings = _at(embeddings, cells)
        mask_features = _at(mask_features, (4 * cells[0], 4 * cells[1]))
        x = F.pixel_unshuffle(pixel_values, 2**self.finest)
        skips = []
        for number, block in enumerate(self.down):
            x = block(x if number == 0 else F.avg_pool2d(x, 2))
            skips.append(x)
        x = before = self.meet(x + self.embedding(embeddings))
        for lateral, block, skip in zip(self.lateral, self.up, reversed(skips[:-1])):
            if skip.shape[-2:] == mask_features.shape[-2:]:
                skip = skip + self.mask_features(mask_features)
            before, x = x, block(F.interpolate(lateral(x), scale_factor=2.0, mode="nearest") + skip)
        return [x] if self.half_project is None else [x, before]

    def masks(self, kernels: torch.Tensor, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """The correction for kernels `(B, N, C / 8)` on the features of the branch: `(B, N, h, w)`, of the finest.

        Kernels are projected rather than features: features of `C / 8` channels would be the largest tensor of all.
        """
        masks = _product(kernels, self.project, self.token_kernels, features[0])
        if self.half_project is None:
            return masks
        half = _product(kernels, self.half_project, self.half_token_kernels, features[1])
        return masks.add_(F.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False))


def _product(
    kernels: torch.Tensor, project: nn.Linear, own: torch.Tensor | None, features: torch.Tensor
) -> torch.Tensor:
    """`(kernels . W + v) . features`, see above; `own` is v of each token."""
    projected = F.linear(kernels, project.weight.t())
    return torch.einsum("bnc,bchw->bnhw", projected if own is None else projected + own, features)
