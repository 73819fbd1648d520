"""COCO's run-length encoding of masks, decoded without trusting it."""

from __future__ import annotations

from typing import Any

import numpy as np


def run_length_mask(encoded: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Decodes a mask, `(H, W)` bool.

    COCO's own decoder writes past its memory if the runs are longer than the mask, so they are added up first.

    Args:
        encoded: `size` [height, width] and `counts`: lengths of runs of 0 and 1 in turn, column by column, as a list or
            as COCO's compressed text.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Raises:
        ValueError: The encoding does not describe a mask of that size.
    """
    if list(encoded.get("size", ())) != [height, width]:
        raise ValueError(f"its size {encoded.get('size')} is not that of the image, [{height}, {width}]")
    counts = encoded.get("counts")
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("its run lengths are not whole numbers")
    if sum(runs) != height * width:
        raise ValueError(f"its run lengths add up to {sum(runs)} pixels instead of {height * width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _decompressed(text: str) -> list[int]:
    """Run lengths of the compressed form: numbers in pieces of five bits, from the third on as differences."""
    runs: list[int] = []
    value, shift = 0, 0
    for sign in text:
        piece = ord(sign) - 48
        if not 0 <= piece < 64 or shift > 60:
            raise ValueError("its compressed run lengths are damaged")
        value |= (piece & 31) << shift
        shift += 5
        if piece & 32:
            continue
        if piece & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("its compressed run lengths end too early")
    return runs
