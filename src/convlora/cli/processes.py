"""How a process that worked with others takes its leave."""

from __future__ import annotations

import gc
import signal
import sys


def leave_process_group() -> None:
    """Ends the threads that talk to other processes, if any, before Python ends.

    A thread of gloo that lets go of its last tensor while Python is already ending aborts the process, although its
    work was done. Its threads end with the last reference to the process group, and a Trainer, which refers to itself,
    holds one until it is collected. The other processes need not be there any more.
    """
    distributed = sys.modules.get("torch.distributed")  # not imported just to find that nothing is to be done
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    # Nothing is left to be saved, so a signal may end it here.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    gc.collect()
    distributed.destroy_process_group()
