"""Runs the command line with FSDP on CPUs, which accelerate knows for accelerators only; can be interrupted."""

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from tests.helpers.interrupted import run

_init = AcceleratorState.__init__


def init(self, *arguments, fsdp_plugin=None, **options):
    _init(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin or FullyShardedDataParallelPlugin()


AcceleratorState.__init__ = init

if __name__ == "__main__":
    run()
