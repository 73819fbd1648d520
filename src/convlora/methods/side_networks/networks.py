"""The networks beside the encoder. Each sees what passes: patches, every block's input and output, the neck's input.

What a network makes of a batch is its state, which it hands out and is handed back: nothing of it stays on the module.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from convlora.tracing import is_traced

HEAD_WIDTH = 8
_LOW_FREQUENCIES = 0.25  # share of the frequencies along each axis that SAM-Adapter takes out


class LadderNetwork(nn.Module):
    """Ladder side tuning: a chain of small blocks. Each sees the output of the encoder's block at its place.

        h_i = block_i( g_i * h_(i-1) + (1 - g_i) * down_i(y_i) ),    g_i = sigmoid(a_i)

    Args:
        channels: Width C of the encoder.
        num_blocks: Number of its blocks.
        reduction: How much narrower the side network is.
        patch: Side of a patch in pixels; unused.
    """

    def __init__(self, channels: int, num_blocks: int, reduction: int, patch: int) -> None:
        super().__init__()
        width = max(1, round(channels / reduction / HEAD_WIDTH)) * HEAD_WIDTH
        self.downs = nn.ModuleList(nn.Linear(channels, width) for _ in range(num_blocks))
        self.gates = nn.Parameter(torch.zeros(num_blocks))
        self.blocks = nn.ModuleList(_SmallBlock(width) for _ in range(num_blocks))
        self.up = nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def begin(self, pixels: torch.Tensor, patches: torch.Tensor) -> torch.Tensor | None:
        """The state of a new batch: the chain has not begun."""
        return None

    def before_block(self, number: int, hidden: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """The blocks' inputs stay as they are."""
        return hidden

    def after_block(self, number: int, hidden: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """Takes one step of the chain; `(B, h, w, width)`."""
        down = self.downs[number]
        seen = down(hidden.detach().to(next(down.parameters()).dtype))
        if state is not None:
            gate = self.gates[number].sigmoid()
            seen = gate * state + (1 - gate) * seen
        else:
            seen = seen + 0 * self.gates[number]  # takes part, so that distributed training finds it used
        after: torch.Tensor = self.blocks[number](seen)
        return after

    def before_neck(self, hidden: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """Adds what the chain ended with."""
        return hidden if state is None else hidden + self.up(state).to(hidden.dtype)


class _SmallBlock(nn.Module):
    """A transformer block over all cells of a map `(B, h, w, d)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = x.flatten(1, 2)
        qkv = self.qkv(self.norm1(cells)).unflatten(-1, (3, -1, HEAD_WIDTH))  # (B, N, 3, heads, HEAD_WIDTH)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        cells = cells + self.proj(attended)
        cells = cells + self.narrow(F.gelu(self.wide(self.norm2(cells))))
        return cells.view_as(x)


class PromptGenerator(nn.Module):
    """SAM-Adapter: each block's input gets `up( gelu( tune_i(f) ) )`, with one `up` for all blocks.

    `f` is the sum of the patch embedding and of the image's high frequencies, both brought to a small width. `up`
    starts at zero, so that training starts from the frozen model; in the published code it does not.

    Args:
        channels: Width C of the encoder.
        num_blocks: Number of its blocks.
        reduction: How much narrower the prompts are inside.
        patch: Side of a patch in pixels.
    """

    def __init__(self, channels: int, num_blocks: int, reduction: int, patch: int) -> None:
        super().__init__()
        width = max(1, channels // reduction)
        self.of_patches = nn.Linear(channels, width)
        self.of_frequencies = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.tunes = nn.ModuleList(nn.Linear(width, width) for _ in range(num_blocks))
        self.up = nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def begin(self, pixels: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """The state of a new batch: its features, `(B, h, w, width)`."""
        dtype = self.of_frequencies.weight.dtype
        sharp: torch.Tensor = self.of_frequencies(high_frequencies(pixels).to(dtype))
        features: torch.Tensor = self.of_patches(patches.detach().to(dtype))
        return features + sharp.permute(0, 2, 3, 1)

    def before_block(self, number: int, hidden: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Adds the block's prompt."""
        prompt: torch.Tensor = self.up(F.gelu(self.tunes[number](state)))
        return hidden + prompt.to(hidden.dtype)

    def after_block(self, number: int, hidden: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Nothing is read there."""
        return state

    def before_neck(self, hidden: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Nothing is added there."""
        return hidden


def high_frequencies(pixels: torch.Tensor) -> torch.Tensor:
    """Images `(B, 3, H, W)` without the quarter of the frequencies along each axis that is lowest, in magnitude."""
    with torch.autocast(pixels.device.type, enabled=False):
        if is_traced():  # exporters do not know all of this; what is low is a product of matrices, too
            down, right = (_low_pass(side).to(pixels.device) for side in map(index, pixels.shape[-2:]))
            single = pixels.float()
            return (single - down @ single @ right).abs()
        spectrum = torch.fft.rfft2(pixels.float())
        down = torch.fft.fftfreq(pixels.shape[-2], device=pixels.device).abs()[:, None]
        right = torch.fft.rfftfreq(pixels.shape[-1], device=pixels.device)[None]
        low = (down < _LOW_FREQUENCIES / 2) & (right < _LOW_FREQUENCIES / 2)
        return torch.fft.irfft2(spectrum.masked_fill(low, 0), s=pixels.shape[-2:]).abs()


def _low_pass(side: int) -> torch.Tensor:
    """What takes an axis to its low frequencies: a symmetric matrix `(side, side)`, float32."""
    frequencies = np.fft.fftfreq(side)
    low = np.abs(frequencies) < _LOW_FREQUENCIES / 2
    apart = np.arange(side)[:, None] - np.arange(side)[None]
    waves = np.cos(2 * np.pi * frequencies[low, None, None] * apart).sum(axis=0)
    return torch.from_numpy((waves / side).astype(np.float32))


NETWORKS: dict[str, Any] = {"ladder": LadderNetwork, "prompt-generator": PromptGenerator}
