"""Masks as the lengths of their runs along the rows: how CVAT writes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def row_runs(mask: np.ndarray) -> list[int]:
    """The lengths of runs of zeros and ones in turn, row by row; the first is of zeros, and may be 0.

    Args:
        mask: `(h, w)`, 0 or 1.
    """
    flat = np.asarray(mask, dtype=bool).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(changes, prepend=0, append=len(flat)).tolist()
    return [0, *runs] if len(flat) and flat[0] else runs


def mask_of(runs: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """What [`row_runs`] was given, `(h, w)` bool.

    Args:
        runs: Lengths of runs.
        size: (height, width) of the mask.

    Raises:
        ValueError: If they are no runs of a mask of that size.
    """
    lengths = np.asarray(runs, dtype=np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise ValueError("these are no runs of a mask of that size")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size)
