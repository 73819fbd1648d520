"""Keeping a process no larger than what it holds, on a CPU with the GNU C library."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import psutil

# Where more memory than this is available, time counts more: a step of ViT-B takes an eighth longer at 512
# pixels, and a fifth longer at 1024, with a quarter less memory there. In bf16 it costs more time.
_AMPLE = 8 << 30

# Of <malloc.h>. Blocks above the first go back at once; the second keeps up to 64 MB of smaller ones at hand, which
# setting the first would turn off.
_MMAP_THRESHOLD, _LARGE = -3, 1 << 22  # a map of 4,096 cells and 256 channels in single precision
_TRIM_THRESHOLD, _AT_HAND = -1, 1 << 26


def save_memory_if_short() -> None:
    """Calls [`return_large_blocks`] where less than 8 GB of memory are available."""
    if psutil.virtual_memory().available < _AMPLE:
        return_large_blocks()


def return_large_blocks() -> None:
    """Lets every large tensor go back to the system as soon as it is freed.

    By default the C library learns to keep blocks of up to 32 MB for later, exactly the size of the maps of a vision
    transformer; they fragment, and a step at 1024 pixels takes two fifths more memory than it holds. Pages of 2 MB,
    where the system offers them, make up for most of the time that asking for memory anew takes. Settings made from
    outside by `MALLOC_MMAP_THRESHOLD_` or `THP_MEM_ALLOC_ENABLE` win. Call it before the first large tensor.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by PyTorch at its first large allocation
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            mallopt(_MMAP_THRESHOLD, _LARGE)
        if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
            mallopt(_TRIM_THRESHOLD, _AT_HAND)
