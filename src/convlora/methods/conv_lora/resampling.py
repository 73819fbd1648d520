"""Bicubic resizing by a whole number as matrices, cut down to the samples that count.

An expert of scale `s` enlarges a map `s` times, convolves it, applies GELU and reduces it again. Per axis, the
reduction reads only a few samples of the enlarged map for each cell: the middle one for odd `s`, four around the middle
for even `s`, all of them for `s = 2`. What is enlarged, and what is reduced, is a matrix per axis. So an axis of `N`
cells needs two small matrices per scale:

- `enlarge`, `(3 P N, N)` before it is laid out: the samples that count and their two neighbours, which the taps of the
  3x3 kernel see, made of cells. Cells beyond the end stand for the last one, as bicubic interpolation has it; taps
  beyond the end of the enlarged map see zero, as the convolution's padding has it.
- `reduce`, `(N, P N)`: the cells, made of the samples that count.

Nothing of the size of the enlarged map is ever computed, and nothing is approximated, at the border neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch

from convlora.tracing import is_traced

CUBIC = -0.75  # PyTorch's parameter of the bicubic kernel


class AxisTables(NamedTuple):
    """What all experts need to know about an axis of `N` cells.

    Attributes:
        enlarge: `(n, P * N, 3 * N)`, from cells under each tap (tap first) to samples.
        reduce: `(n, N, P * N)`, from samples to cells.
    """

    enlarge: torch.Tensor
    reduce: torch.Tensor


def cubic_weights(t: float) -> np.ndarray:
    """Weights of the four samples around a position, `t` (0 to 1) beyond the second of them.

    Source: Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, with a = -0.75.
    """

    def near(x: float) -> float:
        return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC

    return np.array([far(1 + t), near(t), near(1 - t), far(2 - t)])


def bicubic_matrix(new: int, old: int) -> np.ndarray:
    """Bicubic resizing of an axis from `old` to `new` samples, half-pixel centres, no antialiasing: `(new, old)`."""
    matrix = np.zeros((new, old))
    for row in range(new):
        position = (row + 0.5) * old / new - 0.5
        below = int(np.floor(position))
        for offset, weight in enumerate(cubic_weights(position - below)):
            matrix[row, min(max(below - 1 + offset, 0), old - 1)] += weight
    return matrix


def phases(scale: int) -> tuple[int, ...]:
    """The samples of each cell, counted from 0 to `scale - 1`, that the reduction reads."""
    if scale % 2:
        return (scale // 2,)
    return tuple(range(max(0, scale // 2 - 2), min(scale, scale // 2 + 2)))


def most_phases(scales: Sequence[int]) -> int:
    """`P`, the most samples per cell and axis that any of the experts needs: 1, 2 or 4."""
    return max(len(phases(scale)) for scale in scales)


def _axis_matrices(scale: int, size: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """`enlarge` and `reduce` of one scale, see [`AxisTables`]; what other scales need more of is zero."""
    own = phases(scale)
    places = scale * np.arange(size) + np.array(own)[:, None]  # (phases, N): the samples that count
    padded = np.zeros((scale * size + 2, size))
    padded[1:-1] = bicubic_matrix(scale * size, size) if scale > 1 else np.eye(size)
    enlarge = np.zeros((most, size, 3, size))
    for tap in range(3):
        enlarge[: len(own), :, tap] = padded[places + tap]
    reduce = np.zeros((size, most, size))
    whole = bicubic_matrix(size, scale * size) if scale > 1 else np.eye(size)
    reduce[:, : len(own)] = whole[:, places]
    return enlarge.reshape(most * size, 3 * size), reduce.reshape(size, most * size)


@torch.compiler.assume_constant_result  # a compiler must not trace how they are made
def axis_tables(scales: tuple[int, ...], size: int, dtype: torch.dtype, device: torch.device) -> AxisTables:
    """The tables of a set of experts; made once and shared by all layers.

    Args:
        scales: Scale of each expert.
        size: Number of cells of the axis.
        dtype: Type of the tables; they are computed in double precision.
        device: Where they are kept.
    """
    if is_traced():  # what is made of a stand-in for a tensor must not stay
        return _make_tables(scales, size, dtype, device)
    key = (scales, size, dtype, device)
    with _LOCK:  # threads may share a model, or have models of their own
        tables = _TABLES.get(key)
        if tables is None:
            if len(_TABLES) >= _MOST_TABLES:
                del _TABLES[next(iter(_TABLES))]
            tables = _TABLES[key] = _make_tables(scales, size, dtype, device)
    return tables


_LOCK = Lock()
_TABLES: dict[tuple[tuple[int, ...], int, torch.dtype, torch.device], AxisTables] = {}
_MOST_TABLES = 64  # sizes of maps; a model of images of one size has two


def tables_in_use() -> list[AxisTables]:
    """All tables there are. Whoever has recorded where they are in memory keeps them alive by this list."""
    with _LOCK:
        return list(_TABLES.values())


def _make_tables(scales: tuple[int, ...], size: int, dtype: torch.dtype, device: torch.device) -> AxisTables:
    matrices = [_axis_matrices(scale, size, most_phases(scales)) for scale in scales]
    with torch.inference_mode(False):  # made in a prediction, they must serve in training too
        enlarge, reduce = (torch.from_numpy(np.stack(kind)).to(device, dtype) for kind in zip(*matrices))
    return AxisTables(enlarge, reduce)
