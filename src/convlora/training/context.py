"""What every part of a training run needs to know."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from convlora.devices import resolve_device, resolve_precision, use_device
from convlora.errors import InputError
from convlora.locking import only_one
from convlora.methods.registry import find_method
from convlora.models.bundled import absolute
from convlora.reporting import Reporter, Silent
from convlora.training.config import RunConfig
from convlora.training.validation import check_settings


@dataclass
class Context:
    """A run that is being made.

    Attributes:
        config: Its settings; what they leave open is filled in on the way.
        output: The run folder.
        reporter: Receives progress and messages, in the main process.
        process: This process among those that train together.
        device: Where this process computes.
        precision: Precision of the frozen part. `"auto"` is settled when the model is there.
        checkpoint: What the run resumes from; None: it is new.
    """

    config: RunConfig
    output: Path
    reporter: Reporter
    process: PartialState
    device: torch.device
    precision: str
    checkpoint: Path | None = None

    @classmethod
    def begin(cls, config: RunConfig, output: Path, reporter: Reporter | None) -> Context:
        """Checks the settings and chooses a device; touches no file.

        Raises:
            InputError: If a setting is wrong, or no data are named.
        """
        check_settings(config)
        device = resolve_device(config.training.device)
        precision = resolve_precision(config.training.precision, device)
        use_device(device)
        process = PartialState(cpu=device.type == "cpu")
        if reporter is None or not process.is_main_process:
            reporter = Silent()
        if config.data.path is None:
            raise InputError("No data are named. Give a folder or CSV file: convlora train DATA --output RUN.")
        if config.training.budget_seconds is not None and process.num_processes > 1:
            raise InputError(
                "--budget-seconds times the steps of one process, and there are several. Give --max-steps."
            )
        config.data.path = absolute(config.data.path)
        if find_method(config.method.name).network is None:
            config.model.source = absolute(config.model.source)
        return cls(config, output, reporter, process, device, precision)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.process.is_main_process

    def alone(self) -> AbstractContextManager[object]:
        """Keeps other runs out of the folder."""
        return only_one(self.output) if self.is_main else contextlib.nullcontext()
