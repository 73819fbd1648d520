"""Batches that become smaller where memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch

from convlora.devices import free_cached_memory
from convlora.errors import is_out_of_memory


class FittingBatches:
    """Passes images through a model in batches that fit into memory.

    Args:
        size: Images at a time to begin with.
        may_shrink: Whether batches may become smaller than that.

    Attributes:
        size: Images at a time; halved for good whenever a batch turns out to be too large.
    """

    def __init__(self, size: int, may_shrink: bool = True) -> None:
        self.size, self.may_shrink = size, may_shrink

    def outputs(self, forward: Callable[[torch.Tensor], Any], images: torch.Tensor) -> Iterator[tuple[Any, int]]:
        """Passes images through a model.

        Args:
            forward: The model; it is given some of the images at a time.
            images: `(B, ...)`, any number of them.

        Yields:
            For each image in turn the output of its batch, and its place in that.
        """
        start = 0
        while start < len(images):
            batch = images[start : start + self.size]
            output = _try(forward, batch) if self.may_shrink else forward(batch)
            if output is None:
                self.size = len(batch) // 2
                continue
            for index in range(len(batch)):
                yield output, index
            start += len(batch)


def _try(forward: Callable[[torch.Tensor], Any], batch: torch.Tensor) -> Any:
    """The output, or None if the batch is too large; an error about a single image is passed on."""
    try:
        return forward(batch)
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
    # The error is gone by now, and with it the frames that held what had been computed.
    gc.collect()
    free_cached_memory()
    return None
