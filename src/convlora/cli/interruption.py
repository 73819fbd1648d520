"""Commands that are interrupted from the keyboard or terminated from outside."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What Typer makes of Ctrl-C, as shells do; our exit codes are 0, 1 and 2.
TYPERS_EXIT_CODE = 130

_HOW_TO_GO_ON = {
    "train": "Go on with the same command and --resume.",
    "predict": "Go on with the same command and --resume.",
    "compare": "Give the same command again to go on.",
}


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Makes SIGTERM, which queues of clusters send, end a command as Ctrl-C does.

    The exception then has the signal's number as its argument: unlike Ctrl-C, the signal did not reach child processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
        return
    before = signal.getsignal(signal.SIGTERM)

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(number)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupted_message(command: str) -> str:
    """What to say of an interrupted command."""
    return " ".join(["Interrupted.", _HOW_TO_GO_ON.get(command, "")]).strip()
