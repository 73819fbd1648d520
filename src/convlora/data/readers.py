"""Processes that read images for the one that computes."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info

_SHARED = "/dev/shm"  # noqa: S108 - where Linux keeps shared memory

LONGEST_WAIT = 600  # seconds for a batch; a disk that takes longer will not answer


def shield_readers(loader: DataLoader[Any]) -> None:
    """Lets the readers of a loader outlive signals to the whole group, and hand over what they have read in any case.

    Ctrl-C, and SIGTERM as launchers and queues of clusters send it, reach every process of a group. Without its readers
    the one that computes could not finish its step to save it.

    A loader draws a number whenever it is started. Drawn from the global generator, a run that was resumed, or has
    another number of readers, would be given other noise.

    Batches are handed over in shared memory, which is small in containers (64 MB in Docker's). PyTorch's readers lose
    a batch for which there is no room, and the process that computes waits for it for ever; these send it through a
    pipe. Should a batch not come for [`LONGEST_WAIT`] seconds for another reason, PyTorch raises an error.
    """
    loader.worker_init_fn = _Shielded(loader.worker_init_fn)
    loader.generator = torch.Generator().manual_seed(0)
    loader.collate_fn = _HandingOver(loader.collate_fn)
    if loader.num_workers:
        loader.timeout = LONGEST_WAIT


class _Shielded:
    """The start of a reader; a class, so that it can be sent to processes that are not forked."""

    def __init__(self, init: Any) -> None:
        self.init = init

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(OSError, AttributeError):  # has been done already, or is not known to the system
            os.setsid()
        if self.init is not None:
            self.init(worker)


class _HandingOver:
    """Makes a batch, of tensors that can be sent to another process."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        batch = self.collate(items)
        return batch if get_worker_info() is None else _sendable(batch)


def _sendable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sendable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_sendable(entry) for entry in value)
    if not isinstance(value, torch.Tensor) or value.numel() == 0:
        return value
    try:
        # An attempt that fails leaves a file behind; half of the room is for what other readers try at this moment.
        return value.share_memory_() if value.nbytes < _room() / 2 else _ThroughPipe(value)
    except (RuntimeError, OSError):  # there was no room for it
        return _ThroughPipe(value)


def _room() -> float:
    """Bytes of shared memory that are free; where the system does not tell, it is taken to be large."""
    try:
        return shutil.disk_usage(_SHARED).free
    except OSError:
        return math.inf


class _ThroughPipe:
    """A tensor on its way to another process, where it arrives as a tensor, by its bytes."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.from_numpy, (self.tensor.numpy(),)
