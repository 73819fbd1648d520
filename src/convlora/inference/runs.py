"""Reading what a training run left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from convlora.data.classes import ClassTable
from convlora.errors import InputError
from convlora.storage import recover_folder


def read_settings(run: Path) -> dict[str, Any]:
    """Reads the settings of a run, as in its `config.yaml`.

    Raises:
        InputError: If the folder is no run, or the file is damaged.
    """
    if not (run / "config.yaml").is_file():
        raise InputError(f"{run} is not a run folder: it has no config.yaml. Give the --output of convlora train.")
    try:
        settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        for section, key in (
            ("model", "source"),
            ("model", "image_size"),
            ("model", "attention"),
            ("data", "intensity"),
        ):
            _ = settings[section][key]
        _ = settings["method"]["name"], settings["data"]["path"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{run}/config.yaml is damaged ({first_line(error)}). Restore it from a copy.") from error
    return settings


def read_classes(run: Path) -> ClassTable:
    """Reads the classes of a run.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        return ClassTable.from_dict(json.loads((run / "classes.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run}/classes.json is missing or damaged ({first_line(error)}).") from error


def read_metrics(run: Path) -> dict[str, Any] | None:
    """Reads the results of a run; None if it is not finished.

    Raises:
        InputError: If the file is damaged.
    """
    if not (run / "metrics.json").is_file():
        return None
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        _ = metrics["steps"], metrics["params"], metrics["best_epoch"], metrics["peak_memory_mb"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{run}/metrics.json is damaged ({first_line(error)}). Make it again with --resume."
        ) from error
    return metrics


def adapter_folder(run: Path) -> Path:
    """The folder of the best weights of a run.

    Raises:
        InputError: If there are none yet.
    """
    recover_folder(run / "adapter")
    if not (run / "adapter" / "adapter_model.safetensors").is_file():
        raise InputError(f"The run {run} has no trained weights yet. Go on with it: convlora train ... --resume.")
    return run / "adapter"


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
