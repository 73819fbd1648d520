"""FSDP on CPUs, which accelerate knows for accelerators only; can be interrupted."""

import os

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from convlora.cli.main import run
from tests.helpers.interrupted import interrupt_after


def shard_on_cpu():
    """Has this process shard what it trains."""
    whole = AcceleratorState.__init__

    def init(self, *arguments, fsdp_plugin=None, **options):
        whole(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin or FullyShardedDataParallelPlugin()

    AcceleratorState.__init__ = init


def launched_with(config):
    """The variables that accelerate's launcher sets for its processes, of a file of settings."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    settings, *_ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(config), "x.py"]))
    variables = prepare_multi_gpu_env(settings)
    return {name: value for name, value in variables.items() if name.startswith(("ACCELERATE_", "FSDP_"))}


if __name__ == "__main__":
    shard_on_cpu()
    interrupt_after(int(os.environ.get("STOP_AT", "-1")))
    run()
