"""Running a cross-validation: finished folds are kept, an interrupted one is resumed."""

from __future__ import annotations

import copy
import csv
import io
import os
import re
import time
from pathlib import Path
from typing import Any

from convlora.comparison.run import OwnProcesses, Runner
from convlora.devices import resolve_device, resolve_precision
from convlora.errors import InputError, RunError, cell
from convlora.folds.summary import METRICS, sum_up
from convlora.links import check_own
from convlora.locking import LOCK, only_one
from convlora.methods.registry import find_method
from convlora.models.bundled import absolute
from convlora.report.run_facts import duration
from convlora.report.run_page import NAME
from convlora.reporting import Reporter, Silent
from convlora.runs.folds import fold_folder, folds_of
from convlora.runs.hub import refuse_on_hub
from convlora.runs.reading import read_metrics
from convlora.storage import is_unfinished, make_folder, sweep, write_json, write_text
from convlora.training.config import RunConfig
from convlora.training.effects import check_effects
from convlora.training.folder import check_resumed
from convlora.training.folding import Folding, fold_images
from convlora.training.origin import check_samples
from convlora.training.usable_data import UsableData, load_data
from convlora.training.validation import check_settings
from convlora.untrusted import UnreadableError, read_text

SPLITS = "splits.csv"
_BEFORE_TRAINING = {"config.yaml", "classes.json", SPLITS}
_OWN = {*_BEFORE_TRAINING, METRICS, "images.jsonl", "confusion.csv", "confusion.svg", "confusion.pdf"}
_OWN |= {NAME, LOCK}
_FOLD = re.compile(r"fold-\d+(\.yaml)?")
_AGAIN = "Give the same command with --resume to go on"
_LARGEST = 1 << 30  # bytes


def cross_validate(
    config: RunConfig,
    output: Path,
    *,
    resume: bool = False,
    reporter: Reporter | None = None,
    runner: Runner | None = None,
) -> dict[str, Any]:
    """Trains a run for each fold, and scores each image by the one that did not see it.

    Args:
        config: Settings with `data.folds`; they stay as they are.
        output: The folder to write. `fold-0`, `fold-1`, ... in it are run folders.
        resume: Keep the folds that are trained, and resume the one that was interrupted.
        reporter: Receives progress and messages; None: nothing does.
        runner: Trains one run; by default in a process of its own.

    Returns:
        The contents of `metrics.json`.

    Raises:
        InputError: If settings or data are wrong, or the folder holds something else.
        RunError: If a fold failed or was interrupted; it can be resumed.
    """
    refuse_on_hub(output, "convlora train")
    reporter = Silent() if reporter is None else reporter
    config = copy.deepcopy(config)
    _check_settings(config)
    with only_one(output):
        _check_folder(config, output, resume, reporter)
        data = load_data(config, reporter.message, reporter.track)
        asked = copy.deepcopy(config)
        check_effects(
            asked,
            num_classes=data.classes.num_classes,
            has_val=bool(data.source.splits.get("val")),
            volumes=data.source.volume_kinds(),
        )
        folding = fold_images(config, data, reporter.message)
        _write_splits(folding, output)
        write_json(output / "classes.json", data.classes.to_dict())
        if not _is_begun(output):
            config.save(output / "config.yaml")
        _train_all(config, output, data, folding, reporter, runner or OwnProcesses(_AGAIN))
        config = RunConfig.load(output / "config.yaml")
        return sum_up(config, data, folding, output, reporter)


def _is_begun(output: Path) -> bool:
    """Whether a fold has begun to train; before that, other settings and data are no loss."""
    return any(output.glob("fold-*/config.yaml"))


def _check_settings(config: RunConfig) -> None:
    """Refuses what no fold could be trained with; names what was given by whole paths."""
    if config.model.from_run is not None:
        raise InputError(
            "--folds trains every fold from the same start, and the run of --from may have seen images that a fold "
            "holds out. Leave out --from, or train single folds with --set data.fold=0, 1, ..., each into a folder of "
            "its own."
        )
    check_settings(copy.deepcopy(config))
    resolve_precision(config.training.precision, resolve_device(config.training.device))
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(
            "--folds trains its runs one after the other, and not in several processes. Start it without torchrun, or "
            "train each fold with --set data.fold=0, 1, ..."
        )
    if config.data.path is None:
        raise InputError("No data are named. Give a folder or CSV file: convlora train DATA --folds 5 --output RUN.")
    config.data.path = absolute(config.data.path)
    if find_method(config.method.name).network is None:
        config.model.source = absolute(config.model.source)


def _check_folder(config: RunConfig, output: Path, resume: bool, reporter: Reporter) -> None:
    check_own(output, lambda name: name in _OWN or _FOLD.fullmatch(name) is not None or is_unfinished(name))
    sweep(output)
    names = {path.name for path in output.iterdir()} - {LOCK}
    if not resume:
        others = {name for name in names - _BEFORE_TRAINING if not _FOLD.fullmatch(name)}
        if others or _is_begun(output) or (names and folds_of(output) is None):
            go_on = ", or --resume to go on with its run" if "config.yaml" in names else ""
            raise InputError(f"The folder {output} is not empty. Give another --output{go_on}.")
        return
    if "config.yaml" not in names:
        if names:
            raise InputError(f"The folder {output} holds no run to resume: it has no config.yaml. Check --output.")
        reporter.message(f"There is nothing in {output} to resume; starting from the beginning.")
        return
    if folds_of(output) is None:
        raise InputError(
            f"The run {output} was trained without --folds and cannot go on with them. Leave out --folds, or give "
            "another --output."
        )
    if _is_begun(output):
        for change in check_resumed(config, output, length=False):
            reporter.message(f"Resuming with {change}.")


def _write_splits(folding: Folding, output: Path) -> None:
    """Writes down which image is held out when; refuses to go on with other folds than before."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "split", "group", "fold"])
    for one in folding.images:
        table.writerow([cell(one.sample.name), one.split, cell(one.group), one.fold])
    path = output / SPLITS
    if _is_begun(output):
        try:
            before = read_text(path, _LARGEST)
        except (OSError, UnicodeDecodeError, UnreadableError) as error:
            raise InputError(f"{path} is missing or damaged. Restore it, or give another --output.") from error
        if before != text.getvalue():
            raise InputError(
                f"The folds in {output} cannot go on, because the images or their groups are no longer those they "
                f"began with ({path} says which). Restore the data, or give another --output."
            )
        return
    write_text(make_folder(output) / SPLITS, text.getvalue())


def _train_all(
    config: RunConfig, output: Path, data: UsableData, folding: Folding, reporter: Reporter, runner: Runner
) -> None:
    """Trains what is not trained yet. What the first fold has settled holds for the others."""
    folds = config.data.folds or 0
    seconds: list[float] = []
    _announce(config, output, folding, reporter)
    for fold in range(folds):
        folder = fold_folder(output, fold)
        train, val = folding.train_val(fold)
        if read_metrics(folder) is None:
            left = _left(seconds, folds - fold)
            reporter.message(f"Fold {fold + 1} of {folds}: {len(train)} images to train on, {len(val)} held out.{left}")
            own = copy.deepcopy(config)
            own.data.fold = fold
            begin = time.monotonic()
            resumed = (folder / "config.yaml").is_file()
            runner(own, folder)
            if not resumed:
                seconds.append(time.monotonic() - begin)
            if read_metrics(folder) is None:
                raise RunError(f"The run {folder} ended without a result. {_AGAIN}.")
        check_samples(folder, {"val": val}, reporter.message)
        settled = RunConfig.load(folder / "config.yaml")
        if (settled.data.folds, settled.data.fold) != (folds, fold):
            raise InputError(f"The run {folder} is not fold {fold} of {folds}. Remove it, and go on with --resume.")
        if fold == 0:
            config = _for_all(settled, config)
            config.save(output / "config.yaml")


def _for_all(settled: RunConfig, asked: RunConfig) -> RunConfig:
    """The settings of a fold as those of all; what may differ on another machine stays as it was asked for."""
    config = copy.deepcopy(settled)
    config.data.fold = None
    config.data.path = asked.data.path
    if find_method(config.method.name).network is None:
        config.model.source = asked.model.source
    config.training.device, config.data.workers = asked.training.device, asked.data.workers
    return config


def _announce(config: RunConfig, output: Path, folding: Folding, reporter: Reporter) -> None:
    """Says what is about to be done, and how long that takes as far as it is known."""
    folds = config.data.folds or 0
    done = sum((fold_folder(output, fold) / METRICS).is_file() for fold in range(folds))
    units = len({one.unit for one in folding.images})
    groups = f" in {units} groups" if folding.has_groups else ""
    reporter.message(
        f"{len(folding.images)} images{groups} in {folds} folds: {output / SPLITS} says which image is held out when."
    )
    left = folds - done
    if done:
        reporter.message(f"{done} of {folds} folds are trained.")
    if left and config.training.budget_seconds is not None:
        reporter.message(f"Training takes {duration(left * config.training.budget_seconds)}, without validation.")
    elif left == folds:
        reporter.message(f"This takes about {folds} times as long as a single run.")


def _left(seconds: list[float], left: int) -> str:
    """How long the rest will take, by the folds that were trained whole."""
    return f" About {duration(left * sum(seconds) / len(seconds))} left." if seconds else ""
