"""Cutting maps into windows, and joining them again, in one pass over the numbers.

transformers pads a map to a multiple of the window, copies it into windows, and on the way back copies the windows into
a map and that map without its padding: four passes over the largest tensors of a block, in each direction. Here each
number is copied once. Where the padding goes zeros are written; they are cells like any other to the attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import Any

import torch
import torch.nn.functional as F

from convlora.tracing import is_traced


class _Cut(torch.autograd.Function):
    """Maps `(B, H, W, C)` to windows `(B * n, w, w, C)`; its gradient is [`_Join`]'s value, and the other way round."""

    @staticmethod
    def forward(maps: torch.Tensor, window: int) -> torch.Tensor:
        return _cut(maps, window)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, int], output: torch.Tensor) -> None:
        ctx.window, ctx.size = inputs[1], (inputs[0].shape[1], inputs[0].shape[2])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _join(grads[0], ctx.window, ctx.size), None


class _Join(torch.autograd.Function):
    """Windows `(B * n, w, w, C)` to maps `(B, H, W, C)`."""

    @staticmethod
    def forward(windows: torch.Tensor, window: int, size: tuple[int, int]) -> torch.Tensor:
        return _join(windows, window, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.window = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _cut(grads[0], ctx.window), None, None


def cut_windows(hidden_states: torch.Tensor, window_size: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Takes the place of transformers' `SamVisionLayer.window_partition`.

    Args:
        hidden_states: `(B, H, W, C)`.
        window_size: Side of a window in cells.

    Returns:
        The windows, `(B * n, window_size, window_size, C)`, and (height, width) with padding.
    """
    rows, columns = (-(-side // window_size) for side in hidden_states.shape[1:3])
    windows: torch.Tensor = (_cut_plainly if is_traced() else _Cut.apply)(hidden_states, window_size)
    return windows, (rows * window_size, columns * window_size)


def join_windows(
    windows: torch.Tensor, window_size: int, padding_shape: tuple[int, int], original_shape: tuple[int, int]
) -> torch.Tensor:
    """Takes the place of transformers' `SamVisionLayer.window_unpartition`.

    Args:
        windows: As of [`cut_windows`].
        window_size: Side of a window in cells.
        padding_shape: Not needed; for the signature.
        original_shape: (H, W).

    Returns:
        `(B, H, W, C)`.
    """
    maps: torch.Tensor = (_join_plainly if is_traced() else _Join.apply)(windows, window_size, original_shape)
    return maps


def _cut(maps: torch.Tensor, window: int) -> torch.Tensor:
    batch, height, width, channels = maps.shape
    rows, columns = -(-height // window), -(-width // window)
    windows = maps.new_empty(batch, rows, columns, window, window, channels)
    if height % window:
        windows[:, -1, :, height % window :].zero_()
    if width % window:
        windows[:, :, -1, :, width % window :].zero_()
    for in_map, in_windows in _parts(maps, windows, window):
        in_windows.copy_(in_map)
    return windows.view(-1, window, window, channels)


def _join(windows: torch.Tensor, window: int, size: tuple[int, int]) -> torch.Tensor:
    rows, columns = (-(-side // window) for side in size)
    windows = windows.contiguous().view(-1, rows, columns, *windows.shape[1:])
    maps = windows.new_empty(len(windows), *size, windows.shape[-1])
    for in_map, in_windows in _parts(maps, windows, window):
        in_map.copy_(in_windows)
    return maps


def _cut_plainly(maps: torch.Tensor, window: int) -> torch.Tensor:
    """[`_cut`] without writing in place, for exporters."""
    # Numbers, not what a tracer makes of them: the division of negative ones is another in ONNX.
    height, width = map(index, maps.shape[1:3])
    padded = F.pad(maps, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = -(-height // window), -(-width // window)
    grid = padded.view(-1, rows, window, columns, window, padded.shape[-1])
    return grid.transpose(2, 3).reshape(-1, window, window, padded.shape[-1])


def _join_plainly(windows: torch.Tensor, window: int, size: tuple[int, int]) -> torch.Tensor:
    """[`_join`] without writing in place, for exporters."""
    size = index(size[0]), index(size[1])
    rows, columns = (-(-side // window) for side in size)
    grid = windows.reshape(-1, rows, columns, window, window, windows.shape[-1]).transpose(2, 3)
    return grid.reshape(-1, rows * window, columns * window, windows.shape[-1])[:, : size[0], : size[1]]


def _parts(maps: torch.Tensor, windows: torch.Tensor, window: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of views `(B, i, h, j, w, C)` of the same cells: whole windows, those cut short below, right, and both."""
    height, width = maps.shape[1:3]
    for top, bottom, h in _stripes(height, window):
        for left, right, w in _stripes(width, window):
            in_map = maps[:, top:bottom, left:right].unflatten(2, (-1, w)).unflatten(1, (-1, h))
            block = windows[:, top // window : -(-bottom // window), left // window : -(-right // window), :h, :w]
            yield in_map, block.transpose(2, 3)


def _stripes(side: int, window: int) -> list[tuple[int, int, int]]:
    """Begin, end and height of the whole windows of a side, and of the one that is cut short."""
    whole = side // window * window
    stripes = [(0, whole, window), (whole, side, side - whole)]
    return [(begin, end, size) for begin, end, size in stripes if end > begin]
