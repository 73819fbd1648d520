"""What a run folder says, as far as it goes: runs may be interrupted, or of an older version."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convlora.data.classes.class_table import ClassTable
from convlora.links import below, is_plain_file
from convlora.runs.reading import read_classes, read_metrics, read_settings
from convlora.untrusted import read_json, read_lines

_LARGEST = 1 << 30  # bytes
_STATE = "trainer_state.json"


@dataclass
class RunFiles:
    """The content of a run folder.

    Attributes:
        folder: The run folder.
        settings: As in `config.yaml`.
        classes: The classes; None if the run has not got that far.
        metrics: As in `metrics.json`; empty if the run is not finished.
        log: Lines of `log.jsonl`, those that can be drawn.
        history: Validation scores by epoch.
        images: Lines of `images.jsonl`.
        counts: Images in each split that is known.
    """

    folder: Path
    settings: dict[str, Any]
    classes: ClassTable | None
    metrics: dict[str, Any]
    log: list[dict[str, Any]]
    history: list[dict[str, Any]]
    images: list[dict[str, Any]]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether the run has its scores."""
        return bool(self.metrics)

    @property
    def split(self) -> str | None:
        """The split that was scored image by image: test, or else validation."""
        return next((split for split in ("test", "val") if self.metrics.get(split)), None)

    def setting(self, section: str, name: str) -> Any:
        """A setting; None if the version that made the run did not have it."""
        return self.settings.get(section, {}).get(name)


def read_run(folder: Path) -> RunFiles:
    """Reads a run folder.

    Raises:
        InputError: If it is none, or one of its main files is damaged.
    """
    settings = read_settings(folder)
    metrics = read_metrics(folder) or {}
    classes = read_classes(folder) if (folder / "classes.json").is_file() else None
    log = [line for line in _lines(folder / "log.jsonl") if _are_numbers(line, "step", "epoch", "task_loss")]
    history = metrics.get("history") or _history_of_checkpoint(folder)
    images = [line for line in _lines(folder / "images.jsonl") if _is_image(line)]
    run = RunFiles(folder, settings, classes, metrics, log, [one for one in history if _is_entry(one)], images)
    if run.split is not None:  # of folds there are several splits
        run.images = [one for one in run.images if one.get("split") in (None, run.split)]
    run.counts = _counts(folder) | {
        split: metrics[split]["num_images"] for split in ("val", "test") if metrics.get(split, {}).get("num_images")
    }
    return run


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return read_lines(path, _LARGEST)
    except (OSError, ValueError):
        return []


def _counts(folder: Path) -> dict[str, int]:
    try:
        return {split: len(samples) for split, samples in read_json(folder / "samples.json", _LARGEST).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _history_of_checkpoint(folder: Path) -> list[dict[str, Any]]:
    """Validation scores of a run that is not finished, from its last checkpoint."""
    states = [path for path in below(folder / "checkpoints") if path.name == _STATE and is_plain_file(path)]
    last = max(states, key=lambda path: (len(path.parent.name), path.parent.name), default=None)
    try:
        entries = read_json(last, _LARGEST)["log_history"] if last is not None else []
        scored = [entry for entry in entries if any(name.startswith("eval_") for name in entry)]
        return [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in scored]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _are_numbers(line: dict[str, Any], *names: str) -> bool:
    return all(isinstance(line.get(name), (int, float)) for name in names)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and _are_numbers(entry, "epoch")


def _is_image(line: dict[str, Any]) -> bool:
    """Whether a line tells the score of an image."""
    if not isinstance(line.get("image"), str):
        return False
    lists = [line.get(name) for name in ("right", "true", "predicted")]
    return _are_numbers(line, "iou") or all(isinstance(one, list) and one for one in lists)
