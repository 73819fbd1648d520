"""Running a comparison: finished runs are kept, interrupted ones are resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from convlora.comparison.fitting import check_fit
from convlora.comparison.plan import Plan, PlannedRun, Variant, shared_settings
from convlora.data.checking.reach import SIZE_IS_TOLD
from convlora.devices import resolve_device, resolve_precision
from convlora.errors import InputError, RunError
from convlora.links import check_own
from convlora.methods.registry import find_method, resolve_options
from convlora.models.detail_file import settled_detail
from convlora.runs.reading import read_metrics
from convlora.settings.history import IN_OLDER_VERSIONS
from convlora.storage import make_folder, write_text
from convlora.training.config import RunConfig
from convlora.training.effects import check_effects
from convlora.training.usable_data import load_data
from convlora.untrusted import UnreadableError, parse_json, read_text, read_yaml

SETTINGS = "comparison.yaml"
_OWN = {SETTINGS, "runs", "compare.json", "compare.csv", "compare.html", "plots"}


Runner = Callable[[RunConfig, Path], None]


def run_plan(
    plan: Plan, output: Path, *, say: Callable[[str], None], runner: Runner | None = None
) -> dict[str, list[PlannedRun]]:
    """Trains whatever of a comparison is not trained yet.

    Args:
        plan: The comparison.
        output: Its folder.
        say: Receives a sentence about each run.
        runner: Trains one run; by default in a process of its own, so that peak memory is its own and a run that is
            killed takes nothing with it.

    Returns:
        The runs that count, by the label of the method; runs of the search for a learning rate only where they won.

    Raises:
        InputError: If the folder holds a comparison with other settings, or there is no such device.
        RunError: If a run failed or was interrupted.
    """
    resolve_precision(plan.base.training.precision, resolve_device(plan.base.training.device))
    if plan.base.data.val_fraction == 0:
        raise InputError("A comparison needs validation images, which data.val_fraction=0 leaves out. Raise it.")
    data = load_data(plan.base, tell=lambda _: None)
    for variant in plan.variants:
        planned = PlannedRun(variant, 1.0, None, 0).config(plan.base)
        check_effects(
            planned,
            num_classes=data.classes.num_classes,
            has_val=bool(data.source.splits.get("val")),
            volumes=data.source.volume_kinds(),
        )
    _check_folder(plan, output)
    check_fit(plan, output)
    runner = runner or OwnProcesses()
    chosen: dict[str, list[PlannedRun]] = {}
    for variant in plan.variants:
        lr = _search(variant, plan, output, say, runner)
        runs = [PlannedRun(variant, fraction, lr, seed) for fraction in plan.fractions for seed in plan.seeds]
        for run in runs:
            _train(run, plan, output, say, runner)
        chosen[variant.label] = runs
    return chosen


def _search(variant: Variant, plan: Plan, output: Path, say: Callable[[str], None], runner: Runner) -> float | None:
    """The learning rate with the best validation score, on all images and with the first seed."""
    rates = plan.searched(variant)
    if len(rates) < 2:
        return rates[0] if rates else None
    scores = {}
    for rate in rates:
        run = PlannedRun(variant, plan.fractions[0], rate, plan.seeds[0])
        metrics = _train(run, plan, output, say, runner)
        scores[rate] = metrics["val"][score_name(metrics["val"])]
    best = max(scores, key=lambda rate: scores[rate])
    tried = ", ".join(f"{rate:g}: {score:.4f}" for rate, score in scores.items())
    say(f"{variant.label}: learning rate {best:g} (validation scores {tried})")
    return best


def _train(run: PlannedRun, plan: Plan, output: Path, say: Callable[[str], None], runner: Runner) -> dict[str, Any]:
    folder = run.folder(output)
    metrics = read_metrics(folder)
    if metrics is not None:
        _check_run(run.config(plan.base), folder)
    else:
        share = "" if run.fraction == 1 else f", {100 * run.fraction:g}% of the training images"
        rate = "" if run.lr is None else f", learning rate {run.lr:g}"
        say(f"{run.variant.label}, seed {run.seed}{share}{rate}")
        runner(run.config(plan.base), folder)
        metrics = read_metrics(folder)
        if metrics is None:
            raise RunError(f"The run {folder} ended without a result. Give the same command again to go on.")
    return metrics


class OwnProcesses:
    """Trains each run by `convlora train` in a process of its own, whose progress is shown.

    What an image size can reach is said by the first of the runs that see the same masks in the same cells.

    Args:
        again: What to do when a run was stopped, as a sentence without its full stop.
    """

    def __init__(self, again: str = "Give the same command again to go on") -> None:
        self._told: set[tuple[Any, ...]] = set()
        self._again = again

    def __call__(self, config: RunConfig, folder: Path) -> None:
        """Trains one run.

        Raises:
            InputError: If it cannot be made.
            RunError: If it fails or is interrupted; it can be resumed.
        """
        is_network = find_method(config.method.name).network is not None
        sizes = str(config.model.image_size), config.data.window
        seen = (is_network, config.model.detail, sizes, config.data.train_fraction)
        environment = {**os.environ, SIZE_IS_TOLD: "1"} if seen in self._told else None
        self._told.add(seen)
        _train_in_own_process(config, folder, environment, self._again)


def _train_in_own_process(config: RunConfig, folder: Path, environment: Mapping[str, str] | None, again: str) -> None:
    make_folder(folder.parent)
    settings = folder.with_suffix(".yaml")
    config.save(settings)
    command = [sys.executable, "-m", "convlora.cli.main", "train", "--config", str(settings), "--output", str(folder)]
    command += ["--json", *(["--resume"] if (folder / "config.yaml").is_file() else [])]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:  # noqa: S603 - our own program
        try:
            code = process.wait()
        except KeyboardInterrupt as error:
            if error.args:  # a signal to this process alone
                process.terminate()
            process.wait()  # it is saving a checkpoint
            raise RunError(f"Interrupted. {again}.") from None
    if code == 2:
        raise InputError(f"The run {folder} cannot be made, see above. Correct what is said there.")
    if code:
        raise RunError(f"The run {folder} failed, see above. {again} from there.")


def _check_folder(plan: Plan, output: Path) -> None:
    check_own(output, _OWN.__contains__)
    settings, path = shared_settings(plan.base), output / SETTINGS
    if not path.is_file() or not any(output.glob("runs/**/config.yaml")):  # nothing was trained yet
        if not path.is_file() and (output.is_file() or (output.is_dir() and any(output.iterdir()))):
            raise InputError(f"{output} exists and holds no comparison. Choose another --output.")
        plan.base.model.detail = settled_detail(plan.base.model.detail, plan.base.model.source)
        make_folder(output)
        write_text(path, yaml.safe_dump(shared_settings(plan.base), sort_keys=False))
        return
    try:
        earlier = read_yaml(path)
        if earlier["model"].get("detail") == "auto":  # comparisons of before wrote that; it was `half` for all SAMs
            earlier["model"]["detail"] = "half"
        before = RunConfig()  # for settings that there were none of at the time
        before.update(IN_OLDER_VERSIONS, origin="older versions")
        defaults = shared_settings(before)
        _fill_in(plan.base, settings, {key: {**defaults[key], **own} for key, own in earlier.items()})
        settings = shared_settings(plan.base)
        changes = [
            f"{section}.{key} = {value!r} instead of {earlier[section].get(key)!r}"
            for section, entries in settings.items()
            for key, value in entries.items()
            if earlier[section].get(key, defaults[section][key]) != value
        ]
    except (OSError, UnreadableError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged. Restore it from a copy, or choose another --output.") from error
    if changes:
        raise InputError(
            f"The comparison in {output} cannot be resumed with {', '.join(changes)}: its runs would differ in more "
            "than the method. Leave that out, or choose another --output."
        )


def _fill_in(base: RunConfig, settings: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Takes what the settings leave open from those that a comparison began with."""
    for section, entries in settings.items():
        for key, value in entries.items():
            stored = earlier[section].get(key)
            if (value is None and stored is not None) or (key, value) == ("detail", "auto"):
                base.update({section: {key: stored}}, origin=SETTINGS)


def _check_run(planned: RunConfig, folder: Path) -> None:
    """Refuses a finished run that was made with another method or learning rate."""
    saved = RunConfig.load(folder / "config.yaml")
    planned.method.options = resolve_options(planned.method.name, planned.method.options)
    rate = saved.training.lr if planned.training.lr is None else planned.training.lr  # else it was the default
    if (saved.method, saved.training.lr, saved.data.train_fraction) != (
        planned.method,
        rate,
        planned.data.train_fraction,
    ):
        raise InputError(f"The run {folder} was made with other settings. Delete it, or choose another --output.")


def score_name(scores: dict[str, Any]) -> str:
    """The score that a comparison is about."""
    return "miou" if "miou" in scores else "iou"


def read_images(folder: Path) -> list[dict[str, Any]]:
    """The scores of single images that a run left behind.

    Raises:
        InputError: If they are missing or damaged.
    """
    path = folder / "images.jsonl"
    try:
        return [parse_json(line) for line in read_text(path, largest=1 << 32).splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged. Delete {folder} and give the command again.") from error
