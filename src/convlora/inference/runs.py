"""Reading what a training run left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convlora.data.classes import ClassTable
from convlora.errors import InputError
from convlora.storage import recover_folder
from convlora.untrusted import UnreadableError, read_json, read_yaml


def read_settings(run: Path) -> dict[str, Any]:
    """Reads the settings of a run, as in its `config.yaml`.

    Raises:
        InputError: If the folder is no run, or the file is damaged.
    """
    if not (run / "config.yaml").is_file():
        raise InputError(f"{run} is not a run folder: it has no config.yaml. Give the --output of convlora train.")
    try:
        settings = read_yaml(run / "config.yaml")
        for section, key in (
            ("model", "source"),
            ("model", "image_size"),
            ("model", "attention"),
            ("data", "intensity"),
            ("training", "adapt_last"),
        ):
            _ = settings[section][key]
        _ = settings["method"]["name"], settings["data"]["path"]
    except (OSError, UnreadableError, KeyError, TypeError) as error:
        raise InputError(f"{run}/config.yaml is damaged ({first_line(error)}). Restore it from a copy.") from error
    return settings


def read_classes(run: Path) -> ClassTable:
    """Reads the classes of a run.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        return ClassTable.from_dict(read_json(run / "classes.json"))
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
        metrics = read_json(run / "metrics.json", largest=1 << 30)
        _ = metrics["steps"], metrics["params"], metrics["best_epoch"], metrics["peak_memory_mb"]
    except (OSError, ValueError, KeyError, TypeError) as error:
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
