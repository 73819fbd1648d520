"""From the scores of overlapping windows to those of an image, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from convlora.inference.windows import Grid

Pieces = Iterable[tuple[slice, torch.Tensor]]


@torch.no_grad()
def blend(grid: Grid, windows: Iterable[Pieces]) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Adds up weighted windows and hands out each part of the image once no later window touches it.

    What is kept are the sums of one window, and of the rows that reach into the next row of windows: with C channels
    and single precision 4 C bytes for each pixel of an overlap as wide as the image.

    Args:
        grid: Where the windows lie.
        windows: The scores of each window in the grid's order, some rows at a time: which rows of the window, and
            `(C, rows, window width)`.

    Yields:
        Rows and columns of the image, and the blended scores there, `(C, rows, columns)`. Left to right, then down.
    """
    scores = iter(windows)
    columns = list(zip(grid.across.starts, grid.across.next_starts, grid.across.weights))
    down = zip(grid.rows(), grid.down.next_starts, grid.down.weights)
    reach = max(stop - following for stop, following in zip(grid.down.stops, grid.down.next_starts))
    carried: torch.Tensor | None = None
    held = 0  # rows of `carried` that earlier windows have filled
    for (top, bottom), next_top, weights_down in down:
        right_part: torch.Tensor | None = None
        for left, next_left, weights_across in columns:
            sums = _weighted(next(scores), weights_down, weights_across)
            if right_part is not None:
                sums[:, :, : right_part.shape[-1]] += right_part
            done, right_part = sums[:, :, : next_left - left], sums[:, :, next_left - left :].clone()
            if held and carried is not None:
                done[:, :held] += carried[:, :held, left:next_left]
            if next_top < bottom:
                if carried is None:
                    carried = sums.new_empty((len(sums), reach, grid.across.length))
                carried[:, : bottom - next_top, left:next_left] = done[:, next_top - top :]
            yield slice(top, next_top), slice(left, next_left), done[:, : next_top - top]
        held = bottom - next_top


def _weighted(pieces: Pieces, weights_down: np.ndarray, weights_across: np.ndarray) -> torch.Tensor:
    """The scores of one window times its weights, without what lies beyond the image."""
    height, width = len(weights_down), len(weights_across)
    sums: torch.Tensor | None = None
    for rows, scores in pieces:
        if sums is None:
            sums = torch.empty((len(scores), height, width), device=scores.device)
            down, across = (torch.from_numpy(one).to(scores.device) for one in (weights_down, weights_across))
        last = min(rows.stop, height)
        weights = down[rows.start : last, None] * across
        sums[:, rows.start : last] = scores[:, : len(weights), :width] * weights
        if last == height:
            break
    assert sums is not None  # noqa: S101 - a window has rows
    return sums
