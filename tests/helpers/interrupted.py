"""Runs the command line and interrupts a training run after STOP_AT steps, as Ctrl-C would."""

import os

from convlora.cli.main import run
from convlora.training.callbacks import Interruption

_on_step_end = Interruption.on_step_end


def on_step_end(self, args, state, control, **kwargs):
    self.requested = self.requested or state.global_step == int(os.environ.get("STOP_AT", "-1"))
    return _on_step_end(self, args, state, control, **kwargs)


Interruption.on_step_end = on_step_end

if __name__ == "__main__":
    run()
