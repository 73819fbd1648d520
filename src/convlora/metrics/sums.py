"""Sums over large images, piece by piece, equal to the last digit to those of whole arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_LEAF = 1 << 15  # numbers added at a time: they stay in the processor's cache
_PIECE = 1 << 17  # pixels of an image looked at at a time


def pieces(size: tuple[int, ...]) -> Iterator[slice]:
    """Cuts an image into pieces that stay in the processor's cache.

    Args:
        size: (height, width) in pixels.

    Yields:
        Which rows, from top to bottom.
    """
    step = max(1, _PIECE // max(1, size[1]))
    for top in range(0, size[0], step):
        yield slice(top, min(top + step, size[0]))


class PairwiseSum:
    """Adds numbers that come in pieces as `numpy.sum` adds a whole array.

    NumPy splits an array in halves, again and again, and adds the sums of the halves. The same halves are added here.
    So not even the rounding differs, but the array never exists.

    Args:
        number: How many numbers will come.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lengths = _leaves(number)
        self._sums: list[float] = []
        self._waiting = np.empty(min(number, _LEAF))
        self._filled = 0
        self._length = next(self._lengths, 0)

    def add(self, values: NDArray[np.float64]) -> None:
        """Takes the next numbers, in the order of the array."""
        values = values.ravel()
        while len(values):
            taken, values = values[: self._length - self._filled], values[self._length - self._filled :]
            if len(taken) == self._length:
                self._finish(taken)
                continue
            self._waiting[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            if self._filled == self._length:
                self._finish(self._waiting[: self._length])

    def _finish(self, leaf: NDArray[np.float64]) -> None:
        self._sums.append(float(np.add.reduce(leaf)))
        self._filled, self._length = 0, next(self._lengths, 0)

    def total(self) -> float:
        """The sum, once all numbers have come.

        Raises:
            ValueError: If some are missing.
        """
        sums = iter(self._sums)
        try:
            total = _combined(self._number, sums)
        except StopIteration as error:
            raise ValueError(f"fewer than {self._number} numbers were added") from error
        return total


def _halves(number: int) -> tuple[int, int]:
    """Where NumPy splits: at half, but at a multiple of eight."""
    first = number // 2 - number // 2 % 8
    return first, number - first


def _leaves(number: int) -> Iterator[int]:
    if number <= _LEAF:
        if number:
            yield number
        return
    for half in _halves(number):
        yield from _leaves(half)


def _combined(number: int, sums: Iterator[float]) -> float:
    if number <= _LEAF:
        return next(sums) if number else 0.0
    first, second = _halves(number)
    total = _combined(first, sums)
    return total + _combined(second, sums)
