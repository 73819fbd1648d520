"""Settings of a run, from wherever people write them: a file, arguments, options, the run that is resumed."""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convlora.errors import InputError
from convlora.settings import SETTINGS
from convlora.settings.checking import COMMAND_LINE
from convlora.settings.method import METHOD_OPTIONS
from convlora.settings.names import find_section
from convlora.training.config import RunConfig

Given = dict[str, dict[str, Any]]
"""Settings by section and name."""

_CHOSEN_FOR_MEMORY = ("batch_size", "grad_accum", "activation_checkpointing")


def by_section(function: str, arguments: Mapping[str, Any]) -> Given:
    """Sorts the keyword arguments of a function into sections.

    A setting is called by its option (`model`, `image_size`) or by its name in `config.yaml` (`workers`). Options of
    the method are called by their names (`r`).

    Raises:
        TypeError: If there is no such setting.
    """
    options = {
        setting.about.option.name.removeprefix("--").replace("-", "_"): setting
        for setting in SETTINGS.values()
        if setting.about.option is not None and setting.about.option.flag.startswith("--")
    }
    given: Given = {}
    for argument, value in arguments.items():
        section, name = find_section(argument), argument
        if argument in options:
            section, name = options[argument].section, options[argument].name
        if section is None:
            known = [*options, *(setting.name for setting in SETTINGS.values()), *METHOD_OPTIONS]
            close = difflib.get_close_matches(argument, known, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else "docs/settings.md lists all settings."
            raise TypeError(f"{function}() has no argument '{argument}'. {hint}")
        given.setdefault(section, {})[name] = _plain(value)
    return given


def _plain(value: Any) -> Any:
    """A value as files hold it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return list(value) if isinstance(value, tuple) else value


def settings_of(
    config: RunConfig | str | os.PathLike[str] | None,
    given: Given,
    *,
    resumed: Path | None = None,
) -> RunConfig:
    """The settings of a run.

    Args:
        config: What to start from: settings, which are copied, a YAML file or `recipe:NAME`. None: those of the resumed
            run, or else the defaults.
        given: What to change.
        resumed: The folder of the run that is resumed.

    Raises:
        InputError: If a setting is unknown, or has a value of the wrong type.
    """
    if isinstance(config, RunConfig):
        settings = copy.deepcopy(config)
    elif config is not None:
        settings = RunConfig.load(Path(config))
    elif resumed is not None and (resumed / "config.yaml").is_file():
        settings = RunConfig.load(resumed / "config.yaml")
    else:
        settings = RunConfig()
    method = given.get("method", {}).get("name")
    if config is not None and isinstance(method, str):
        _fit_to(method, settings)
    if resumed is not None and given.get("training", {}).get("memory") == "auto":
        # What was chosen the first time, from what was asked for then, is no starting point for choosing again.
        for name in _CHOSEN_FOR_MEMORY:
            setattr(settings.training, name, getattr(RunConfig().training, name))
    settings.update(given, origin=COMMAND_LINE)
    return settings


def _fit_to(method: str, settings: RunConfig) -> None:
    """Takes back what was meant for another method's SAM; a `model` that is given beside a U-Net would be refused."""
    from convlora.methods.registry import find_method  # loads PyTorch, which wrong settings need not wait for
    from convlora.training.validation import leave_out_sam

    if find_method(method).network is not None:
        leave_out_sam(settings)


def check(settings: RunConfig, given: Given) -> None:
    """Checks what needs neither the data nor PyTorch.

    Args:
        settings: All settings of the run.
        given: Which of them were given. A file may hold steps beside seconds: those of a run that was timed.

    Raises:
        InputError: If a value is out of range, or two settings say how long to train.
    """
    settings.check_ranges()
    budget = settings.training.budget_seconds
    if budget is not None and "max_steps" in given.get("training", {}):
        raise InputError(
            f"--budget-seconds (here {budget:g}) and --max-steps both say how long to train. Leave one out."
        )
