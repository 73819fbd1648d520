"""Runs the command line with FSDP on CPUs, which accelerate knows for accelerators only.

STOP_AT=N interrupts a run after so many steps.
"""

import os

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from convlora.cli.main import run
from convlora.training.callbacks import Interruption

_init, _on_step_end = AcceleratorState.__init__, Interruption.on_step_end


def init(self, *arguments, fsdp_plugin=None, **options):
    _init(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin or FullyShardedDataParallelPlugin()


def on_step_end(self, args, state, control, **kwargs):
    self.requested = self.requested or state.global_step == int(os.environ.get("STOP_AT", "-1"))
    return _on_step_end(self, args, state, control, **kwargs)


AcceleratorState.__init__, Interruption.on_step_end = init, on_step_end

if __name__ == "__main__":
    run()
