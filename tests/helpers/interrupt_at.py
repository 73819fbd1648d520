"""Interrupting a run in this process."""

import os
import signal

from convlora.reporting import Silent


class InterruptAt(Silent):
    """Presses Ctrl-C during a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, step: int, epoch: float, loss: float | None) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)
