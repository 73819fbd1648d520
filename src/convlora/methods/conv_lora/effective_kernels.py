"""Experts without enlarging the map: which samples of the enlarged map count, and what they are made of.

An expert of scale `s` enlarges a map `s` times, convolves it, applies GELU and reduces it again. The reduction by a
whole number reads, per axis and cell, only a few samples of the enlarged map: the middle one for odd `s`, four around
the middle for even `s`. Each sample the convolution needs is in turn a fixed combination of a few neighbouring cells.
So the samples that count come straight from the small map, by convolutions with kernels that are a fixed linear
function of the expert's 3x3 weights. Nothing of the size of the enlarged map is ever computed, and nothing is
approximated.

This module holds the fixed part, mostly per axis.
"""

from __future__ import annotations

import numpy as np
import torch

CUBIC = -0.75  # PyTorch's parameter of the bicubic kernel
REACH = 2  # no sample that counts is made of cells further away than this
WINDOW = 2 * REACH + 1
MOST_PHASES = 4

# Reducing by two reads one sample of either neighbouring cell: weights of (previous, own, own, next).
HALF_WEIGHTS = (-0.09375, 0.59375, 0.59375, -0.09375)


def cubic_weights(t: float) -> np.ndarray:
    """Weights of the four samples around a position, `t` (0 to 1) beyond the second of them.

    Source: Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, with a = -0.75.
    """

    def near(x: float) -> float:
        return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC

    return np.array([far(1 + t), near(t), near(1 - t), far(2 - t)])


def phases(scale: int) -> tuple[int, ...]:
    """The samples of a cell, counted from 0 to `scale - 1`, that count after the reduction."""
    if scale % 2:
        return (scale // 2,)
    if scale == 2:
        return (0, 1)
    return tuple(range(scale // 2 - 2, scale // 2 + 2))


def phase_weights(scale: int) -> np.ndarray:
    """How the samples of a cell add up to the reduced cell, `(4,)`; zeros where there are fewer.

    For scale 2, which reads samples of neighbouring cells too, all are zero: see [`HALF_WEIGHTS`].
    """
    weights = np.zeros(MOST_PHASES)
    if scale % 2:
        weights[0] = 1.0
    elif scale != 2:
        weights[:] = cubic_weights(0.5)
    return weights


def sample_weights(scale: int, sample: int) -> np.ndarray:
    """How a sample of the enlarged map is made of cells, along one axis.

    Args:
        scale: The expert's scale.
        sample: Number of the sample; 0 is the first of the cell in question, -1 the last of the one before.

    Returns:
        `(5,)`: weights of the cells at distance -2 to 2. Cells beyond the end of a map stand for its last one, as
        bicubic interpolation has it.
    """
    weights = np.zeros(WINDOW)
    position = (sample + 0.5) / scale - 0.5  # in cells, from the centre of this one
    below = int(np.floor(position))
    for offset, weight in enumerate(cubic_weights(position - below)):
        if weight != 0.0:  # for scale 1 the outer ones are zero, and beyond the window
            weights[below - 1 + offset + REACH] += weight
    return weights


def sample_table(scale: int) -> np.ndarray:
    """What the samples under the taps of the 3x3 kernel are made of, along one axis.

    Returns:
        `(4 phases, 3 taps, 5 cells)`; unused phases are zero.
    """
    table = np.zeros((MOST_PHASES, 3, WINDOW))
    for index, phase in enumerate(phases(scale)):
        for tap in (-1, 0, 1):
            table[index, tap + 1] = sample_weights(scale, phase + tap)
    return table


def touches_border(scale: int) -> bool:
    """Whether the first and the last sample of an axis count, whose taps reach the zeros around the enlarged map."""
    return 0 in phases(scale)


def edge_weights(scale: int) -> np.ndarray:
    """What lies where the convolution should see zero: the sample before the first, made of the first two cells.

    Returns:
        `(2,)`: weights of the first and the second cell; zeros if the scale does not touch the border. The sample after
        the last one mirrors it.
    """
    if not touches_border(scale):
        return np.zeros(2)
    weights = sample_weights(scale, -1)
    return np.array([weights[: REACH + 1].sum(), weights[REACH + 1 :].sum()])


def last_phase(scale: int) -> int:
    """Index among [`phases`] of the last sample of a cell; 0 if the scale does not touch the border."""
    return len(phases(scale)) - 1 if touches_border(scale) else 0


def border_index(
    top_k: int, phases: int, rank: int, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places of the border among the samples `(k, P, P, r, H, W)` of a map, as the fast experts list them.

    Returns:
        For each: its index if the last phase were 0, what to add to it per phase, and the slot `k`; `(m,)` each.
    """
    places = np.arange(top_k * phases * phases * rank * height * width)
    places = places.reshape(top_k, phases, phases, rank, height, width)
    row_step = phases * rank * height * width if phases > 1 else 0
    column_step = rank * height * width if phases > 1 else 0
    far = np.array([0, 1])
    # Rows: (k, side, P, r, W); columns: (k, side, P, r, H); corners: (k, side, side, r).
    rows = np.stack([places[:, 0, :, :, 0], places[:, 0, :, :, -1]], axis=1)
    columns = np.stack([places[:, :, 0, :, :, 0], places[:, :, 0, :, :, -1]], axis=1)
    corners = places[:, 0, 0, :, :, :][..., [0, -1], :][..., [0, -1]].transpose(0, 2, 3, 1)
    steps = [
        np.broadcast_to((row_step * far)[None, :, None, None, None], rows.shape),
        np.broadcast_to((column_step * far)[None, :, None, None, None], columns.shape),
        np.broadcast_to((row_step * far[:, None] + column_step * far)[None, :, :, None], corners.shape),
    ]
    index = [rows, columns, corners]
    slots = [np.broadcast_to(np.arange(top_k).reshape(-1, *[1] * (part.ndim - 1)), part.shape) for part in index]
    joined = [np.concatenate([part.ravel() for part in parts]) for parts in (index, steps, slots)]
    base, step, slot = (torch.from_numpy(part) for part in joined)
    return base, step, slot
