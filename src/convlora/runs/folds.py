"""Runs of cross-validation: a folder with the run of each fold in `fold-0`, `fold-1`, ..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convlora.errors import InputError
from convlora.settings.data import MOST_FOLDS
from convlora.untrusted import UnreadableError, read_yaml


def fold_folder(run: Path, fold: int) -> Path:
    """The run folder of a fold, from 0."""
    return run / f"fold-{fold}"


def folds_in(settings: Any) -> int | None:
    """How many folds the settings of a run ask for; None: they are those of a single run."""
    data = settings.get("data") if isinstance(settings, Mapping) else None
    if not isinstance(data, Mapping) or data.get("fold") is not None:
        return None
    folds = data.get("folds")
    is_count = isinstance(folds, int) and not isinstance(folds, bool) and 2 <= folds <= MOST_FOLDS
    return folds if is_count else None


def folds_of(run: Path) -> int | None:
    """How many folds a run folder holds; None: it is a single run, or none that could be read."""
    try:
        return folds_in(read_yaml(run / "config.yaml"))
    except (OSError, UnreadableError):
        return None


def fold_folders(run: Path) -> list[Path]:
    """The run folders of all folds; none of a single run.

    Raises:
        InputError: If a fold is not finished.
    """
    folders = [fold_folder(run, fold) for fold in range(folds_of(run) or 0)]
    for number, folder in enumerate(folders, 1):
        if not (folder / "metrics.json").is_file():
            raise InputError(unfinished(run, f"fold {number} of {len(folders)} ({folder.name}) has no result"))
    return folders


def unfinished(run: Path, why: str) -> str:
    """A sentence about folds that are not all trained."""
    return f"The run {run} is not finished: {why}. Go on with: convlora train --output {run} --resume"


def refuse_folds(run: Path, command: str) -> None:
    """Refuses what takes one model only.

    Args:
        run: The run folder.
        command: What was asked for, such as `convlora export`.

    Raises:
        InputError: If the folder holds several folds.
    """
    folds = folds_of(run)
    if folds is not None:
        raise InputError(
            f"The run {run} holds {folds} folds, and {command} takes one model. Give it one of them: "
            f"{fold_folder(run, 0)}"
        )
