"""Processes that read images for the one that computes."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import torch
from torch.utils.data import DataLoader


def shield_readers(loader: DataLoader[Any]) -> None:
    """Lets the readers of a loader outlive signals to the whole group, and takes nothing from the global generator.

    Ctrl-C, and SIGTERM as launchers and queues of clusters send it, reach every process of a group. Without its readers
    the one that computes could not finish its step to save it.

    A loader draws a number whenever it is started. Drawn from the global generator, a run that was resumed, or has
    another number of readers, would be given other noise.
    """
    init = loader.worker_init_fn
    loader.worker_init_fn = _Shielded(init)
    loader.generator = torch.Generator().manual_seed(0)


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
