"""Images and masks that stay decoded while windows are cut out of them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from convlora.data.reading.mask_rows import WholeMask
from convlora.data.reading.rows import WholeImage

MOST_BYTES = 1 << 29
"""Of what one process keeps decoded."""

PIXEL_BYTES = 5
"""Of an image in RGB, which Pillow stores with four, and its mask."""

_FILLED = 0.9  # of what can be kept, since pools are not quite equal


class Decoded:
    """The images and masks used last, as far as they take no more than so many bytes.

    What is read from its file piece by piece is not kept.

    Args:
        most: Bytes.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self._kept: OrderedDict[Hashable, tuple[WholeImage | WholeMask, int]] = OrderedDict()
        self._bytes = 0

    @contextmanager
    def opened(self, key: Hashable, opening: AbstractContextManager[Any]) -> Iterator[Any]:
        """Yields what is kept, or else opens it and keeps it if it was decoded whole.

        Args:
            key: By which it is known again.
            opening: Opens it; unused if it is kept.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            yield self._kept[key][0]
            return
        with opening as found:
            if isinstance(found, WholeMask | WholeImage):
                found = found.packed() if isinstance(found, WholeMask) else found
                self._keep(key, found)
            yield found

    def _keep(self, key: Hashable, found: WholeImage | WholeMask) -> None:
        size = found.nbytes
        if size > self.most:
            return
        self._kept[key] = found, size
        self._bytes += size
        while self._bytes > self.most:
            self._bytes -= self._kept.popitem(last=False)[1][1]


def pools(sizes: np.ndarray, most: int = MOST_BYTES) -> np.ndarray:
    """Divides images into pools of about equal bytes, so that each pool can be kept decoded.

    Args:
        sizes: Bytes of each image, in the order in which they are taken; not all 0.
        most: Bytes of a pool.

    Returns:
        The pool of each image: 0, 1, ...
    """
    total = int(sizes.sum())
    number = math.ceil(total / (_FILLED * most))
    middles = sizes.cumsum() - sizes / 2
    return np.minimum((middles * number / total).astype(int), number - 1)
