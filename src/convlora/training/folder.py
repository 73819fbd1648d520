"""The run folder: whether it may be used, what a resumed run starts from, and what is written before training."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from convlora.devices import resolve_precision, set_matmul_precision
from convlora.errors import InputError
from convlora.links import check_own
from convlora.locking import LOCK
from convlora.methods.registry import find_method
from convlora.runs.folds import folds_of
from convlora.runs.reading import OWN_SAM, SAM, imported_from, read_metrics
from convlora.settings import SETTINGS
from convlora.storage import (
    forget_old_folder,
    is_unfinished,
    make_folder,
    old_folder,
    recover_folder,
    swap_folder,
    sweep,
    write_json,
)
from convlora.training.config import RunConfig
from convlora.training.context import Context
from convlora.training.images import Images
from convlora.training.origin import BEGINNING, SAMPLES, write_beginning, write_samples
from convlora.training.usable_data import SKIPPED

# What a run that failed before its first checkpoint may leave behind. It is no loss to write over it.
_LEFT_BY_A_FALSE_START = {
    "config.yaml",
    "classes.json",
    SAM,
    SAMPLES,
    "log.jsonl",
    SKIPPED,
    BEGINNING,
    OWN_SAM,
    "checkpoints",
    "cache",
    "decoded",
}

_ADAPTER = "adapter"
_METRICS = "metrics.json"  # written at the end
_OWN = {
    *_LEFT_BY_A_FALSE_START,
    _ADAPTER,
    old_folder(Path(_ADAPTER)).name,
    LOCK,
    _METRICS,
    "images.jsonl",
    "report.html",
    "inspect.html",
    "confusion.csv",
    "confusion.svg",
    "confusion.pdf",
}

# What may change when a run is resumed. Anything else would make it another run.
_MAY_CHANGE = {
    "data.path",
    "data.workers",
    "data.cache",
    "model.source",
    "training.epochs",
    "training.max_steps",
    "training.patience",  # the schedule does not depend on it
    "training.device",
    "training.cache",
    "training.activation_checkpointing",
    "training.logging_steps",
    "training.report_to",
}
_LENGTH = {"training.epochs", "training.max_steps", "training.patience"}


def find_checkpoint(run: Context, *, resume: bool) -> None:
    """Checks the run folder, and finds the checkpoint to resume from.

    Args:
        run: The run; its checkpoint, and the settings and the precision it began with, are filled in.
        resume: Whether a run in the folder is to be resumed.

    Raises:
        InputError: If the folder cannot be used, or the run cannot be resumed with these settings.
    """
    if run.is_main:
        note = check_folder(run.output, resume)
        if note is not None:
            run.reporter.message(note)
    run.process.wait_for_everyone()
    # The main process holds the lock, so who does not see it looks at another disk; its part of a checkpoint would be
    # missing, and without a checkpoint it would start from the beginning.
    if not all(gather_object([(run.output / LOCK).exists()])):
        raise InputError(
            f"Not every process sees the folder {run.output}. Give an --output on a disk that all machines share."
        )
    run.checkpoint = last_checkpoint(run.output) if resume else None
    if run.checkpoint is not None:
        for change in check_resumed(run.config, run.output):
            run.reporter.message(f"Resuming with {change}.")
    if run.config.training.precision != "auto":  # that of the run that is resumed
        run.precision = resolve_precision(run.config.training.precision, run.device)
    set_matmul_precision(run.device, run.precision)


def write_settings(run: Context, images: Images, sam: dict[str, Any], carried: Mapping[str, Any] | None = None) -> None:
    """Writes what a run is made with, in the main process; the others wait for it.

    Args:
        run: The run.
        images: Its images.
        sam: A fingerprint of the SAM that is fine-tuned.
        carried: What a new run has from an earlier one, for `from.json`.
    """
    if run.is_main:
        output, method = make_folder(run.output), find_method(run.config.method.name)
        if images.data.skipped is not None:
            write_json(output / SKIPPED, images.data.skipped)
        run.config.save(output / "config.yaml")
        write_json(output / "classes.json", images.classes.to_dict())
        if method.trains_encoder or method.network is not None:  # all weights are those of the run
            (output / SAM).unlink(missing_ok=True)  # of a false start with another method
        else:
            write_json(output / SAM, sam)
        write_samples(output, images.splits)
        if run.checkpoint is None:
            write_beginning(output, carried)
    run.process.wait_for_everyone()


def check_folder(output: Path, resume: bool) -> str | None:
    """Checks that a run may use a folder.

    Args:
        output: The run folder.
        resume: Whether a run in it is to be resumed.

    Returns:
        A sentence for the user, if there is something to say.

    Raises:
        InputError: If the folder holds something else, or a run that was not asked to be resumed.
    """
    names = {path.name for path in output.iterdir()} - {LOCK} if output.exists() else set()
    check_own(output, _is_own)
    if resume and folds_of(output) is not None:
        raise InputError(
            f"The run {output} holds several folds, which other settings cannot go on with. Leave out --config, or "
            "give another --output."
        )
    recover_folder(output / _ADAPTER)
    forget_old_folder(output / _ADAPTER)
    sweep(output)
    sweep(output / _ADAPTER)  # whose model card is written again at the end
    names -= {path for path in names if not (output / path).exists()}
    if resume and names - _LEFT_BY_A_FALSE_START and "config.yaml" not in names:
        raise InputError(f"The folder {output} holds no run to resume: it has no config.yaml. Check --output.")
    last = last_checkpoint(output)
    if resume and (software := _trained_by(output)) is not None:
        raise InputError(
            f"The run {output} was trained by {software} and imported, so there is nothing to resume. Give another "
            "--output to train a new run."
        )
    if resume and last is None and (output / _METRICS).exists():  # to begin anew would replace finished weights
        raise InputError(
            f"The run in {output} is finished and its checkpoints are gone, so there is nothing to resume. Give "
            f"another --output to train anew, and --from {output} beside it to begin with its weights."
        )
    if resume:
        keep_new_adapter(output, int(last.name.rpartition("-")[2]) if last is not None else -1)
    if resume and last is None:
        return f"There is no checkpoint in {output} to resume from; starting from the beginning."
    if (not resume and names - _LEFT_BY_A_FALSE_START) or (not resume and last_checkpoint(output) is not None):
        go_on = ", or --resume to go on with its run" if "config.yaml" in names else ""
        raise InputError(f"The folder {output} is not empty. Give another --output{go_on}.")
    return None


def _trained_by(output: Path) -> str | None:
    """The other software that has trained a run which was imported."""
    try:
        return imported_from(read_metrics(output) or {})
    except InputError:
        return None  # damaged results of a run of ours are about to be replaced


def _is_own(name: str) -> bool:
    """Whether something in a run folder is written, removed or read again by training."""
    return name in _OWN or name.startswith(f".{_ADAPTER}-") or is_unfinished(name)


def new_adapter(output: Path, step: int) -> Path:
    """Where the best weights lie until the checkpoint of the same step is written, see [`keep_new_adapter`].

    The first ones take their place at once: there are no others that a run could need again.
    """
    place = output / _ADAPTER
    return output / f".{_ADAPTER}-{step}" if place.exists() else place


def keep_new_adapter(output: Path, last_step: int | None = None) -> None:
    """Puts the best weights in their place once there is a checkpoint that knows of them.

    A run that is killed in between resumes from the checkpoint before, for which other weights are the best.

    Args:
        output: The run folder.
        last_step: That of the last checkpoint; weights of later steps are removed. Default: there are none.
    """
    waiting = {
        int(path.name.rpartition("-")[2]): path for path in output.glob(f".{_ADAPTER}-*") if path.name[-1].isdigit()
    }
    for step, folder in sorted(waiting.items()):
        if last_step is None or step <= last_step:
            swap_folder(folder, output / _ADAPTER)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def last_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint of a run."""
    numbered = {
        int(match[1]): folder
        for folder in (output / "checkpoints").glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", folder.name)) and (folder / "trainer_state.json").is_file()
    }
    return numbered[max(numbered)] if numbered else None


def check_resumed(config: RunConfig, output: Path, *, length: bool = True) -> list[str]:
    """Checks the settings with which a run is to be resumed against those it was started with.

    Args:
        config: The new settings; what they leave open is taken from the old ones.
        output: The run folder.
        length: Whether the length of the training may change.

    Returns:
        The changes, in words.

    Raises:
        InputError: If a setting changed that makes it another run.
    """
    saved = RunConfig.load(output / "config.yaml")
    _fill_in(config, saved)
    before, after = saved.to_dict(), config.to_dict()
    changes: list[str] = []
    refused: list[str] = []
    for section, settings in after.items():
        for key, value in settings.items():
            old = before[section].get(key)
            if value != old:
                change = f"{section}.{key} = {value!r} instead of {old!r}"
                may_change = _MAY_CHANGE if length else _MAY_CHANGE - _LENGTH
                (changes if f"{section}.{key}" in may_change else refused).append(change)
    if refused:
        raise InputError(
            f"The run {output} cannot be resumed with {', '.join(refused)}: it would be another run. Leave that out, "
            "or start a new one with another --output."
        )
    return changes


def _fill_in(config: RunConfig, saved: RunConfig) -> None:
    """Takes what the new settings leave open, or left to be found out, from the saved ones."""
    if config.training.memory == "auto":  # the choice was made when the run began
        for name in ("memory", "batch_size", "grad_accum", "activation_checkpointing"):
            setattr(config.training, name, getattr(saved.training, name))
    if config.model.num_mask_tokens == "auto":
        config.model.num_mask_tokens = saved.model.num_mask_tokens
    if config.model.head == "auto":
        config.model.head = saved.model.head
    if config.model.detail == "auto":
        config.model.detail = saved.model.detail
    if config.training.precision == "auto":
        config.training.precision = saved.training.precision
    for key, setting in SETTINGS.items():
        if config.get(key) is None:
            setattr(getattr(config, setting.section), setting.name, saved.get(key))
    config.settled |= {key for key in saved.settled if config.is_filled_in(key)}
    if config.method.name == saved.method.name:
        for key, value in saved.method.options.items():
            if config.method.options.get(key) is None:
                config.method.options[key] = value
