"""A training run that is interrupted after a step, as Ctrl-C would, in every process of it."""

import os

from convlora.cli.main import run
from convlora.training.callbacks import Interruption


def interrupt_after(step):
    """Has this process interrupt its run after so many steps."""
    whole = Interruption.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        self.requested = self.requested or state.global_step == step
        return whole(self, args, state, control, **kwargs)

    Interruption.on_step_end = on_step_end


if __name__ == "__main__":
    interrupt_after(int(os.environ.get("STOP_AT", "-1")))
    run()
