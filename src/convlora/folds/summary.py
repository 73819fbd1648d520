"""Summing up a cross-validation: each image is scored by the fold that did not see it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from convlora.comparison.bootstrap import score_interval
from convlora.comparison.run import score_name
from convlora.data.sample import Sample
from convlora.devices import default_batch, default_workers, device_name
from convlora.errors import InputError
from convlora.inference.scoring import new_baselines, new_scores, score_samples
from convlora.inference.segmenter import Segmenter
from convlora.inference.volume_scores import VolumeScores
from convlora.methods.registry import find_method
from convlora.metrics import BinaryScores, MultiClassScores
from convlora.report.run_page import report_after_training
from convlora.reporting import Reporter
from convlora.runs.folds import fold_folder
from convlora.runs.reading import read_metrics
from convlora.storage import write_json, write_text
from convlora.training.config import RunConfig
from convlora.training.folding import Folding
from convlora.training.usable_data import UsableData

METRICS = "metrics.json"


def sum_up(config: RunConfig, data: UsableData, folding: Folding, output: Path, reporter: Reporter) -> dict[str, Any]:
    """Scores all images out of fold, and the test images by all folds together; writes the results.

    Args:
        config: The settings.
        data: The data set.
        folding: Which image is held out when.
        output: The folder of the folds, all of them trained.
        reporter: Receives progress.

    Returns:
        The contents of `metrics.json`: `val` are the scores out of fold: each image counts once, as the fold that did
        not see it segments it. `test` are those of the mean of all folds.
    """
    folds = config.data.folds or 0
    singles = [_metrics_of(fold_folder(output, fold)) for fold in range(folds)]
    model = config.model.source if find_method(config.method.name).network is None else None  # it may have moved
    segmenter = Segmenter.load(output, model=model, device=config.training.device, precision=config.training.precision)
    records: list[dict[str, Any]] = []
    collected, trivial, volumes = new_scores(data.classes), new_baselines(data.classes), VolumeScores(data.classes)
    for fold, member in enumerate(segmenter.folds):
        own: list[dict[str, Any]] = []
        what = f"fold {fold + 1} of {folds}"
        held_out = folding.train_val(fold)[1]
        collected.merge(_score(member, held_out, data, reporter, what, trivial, own, volumes).state_dict())
        records += [{"split": "val", "fold": fold, **one} for one in own]
    name = score_name(collected.compute())
    units = {one.sample.name: one.unit for one in folding.images}
    drawn = [units[one["image"]] for one in records] if folding.has_groups else None
    metrics: dict[str, Any] = {
        "folds": folds,
        "best_epoch": None,  # each fold has its own
        "steps": sum(one["steps"] for one in singles),
        "val": {**collected.compute(), "trivial": trivial.compute(), **_of_volumes(volumes)},
        "interval": {"val": {"score": name, **score_interval(records, name, drawn)._asdict()}},
    }
    if isinstance(collected, BinaryScores) and collected.thresholds is not None:
        metrics["threshold"] = collected.thresholds.compute()
    last = collected
    if tested := list(data.source.splits.get("test", ())):
        answers, own, volumes = new_baselines(data.classes), [], VolumeScores(data.classes)
        last = _score(segmenter, tested, data, reporter, "test", answers, own, volumes)
        metrics["test"] = {**last.compute(), "trivial": answers.compute(), **_of_volumes(volumes)}
        interval = score_interval(own, name, _test_units(own, folding))
        metrics["interval"]["test"] = {"score": name, **interval._asdict()}
        records += [{"split": "test", **one} for one in own]
    metrics |= {
        "fold_scores": [_of_fold(fold, one) for fold, one in enumerate(singles)],
        "groups": len(set(units.values())) if folding.has_groups else None,
        "params": singles[0]["params"],
        "seconds_per_step": _median([one["seconds_per_step"] for one in singles]),
        "peak_memory_mb": max(one["peak_memory_mb"] for one in singles),
        "device": device_name(segmenter.device),
        "precision": segmenter.precision,
        "versions": {name: version(name) for name in ("convlora", "torch", "transformers", "peft")},
    }
    write_text(output / "images.jsonl", "".join(json.dumps(one) + "\n" for one in records))
    write_json(output / METRICS, metrics)
    samples = tested or [one.sample for one in folding.images]
    confusion = last.confusion if isinstance(last, MultiClassScores) else None
    named = {sample.name: sample for sample in samples}
    report_after_training(output, lambda: segmenter, named, confusion, reporter.message)
    return metrics


def _metrics_of(folder: Path) -> dict[str, Any]:
    metrics = read_metrics(folder)
    if metrics is None:
        raise InputError(f"The run {folder} is not finished. Go on with --resume.")
    return metrics


def _score(
    segmenter: Segmenter,
    samples: Sequence[Sample],
    data: UsableData,
    reporter: Reporter,
    what: str,
    trivial: Any,
    images: list[dict[str, Any]],
    volumes: VolumeScores,
) -> BinaryScores | MultiClassScores:
    reporter.validate_begin(len(samples), what)
    scores = score_samples(
        segmenter.model,
        samples,
        data.classes,
        image_size=segmenter.image_size,
        batch_size=default_batch(segmenter.device),
        tiles=segmenter.tiles,
        workers=default_workers(segmenter.device, len(samples)),
        precision=segmenter.precision,
        intensity=segmenter.intensity,
        trivial=trivial,
        images=images,
        volumes=volumes,
        progress=reporter.validate_step,
    )
    reporter.validate_end(None, {}, "", False)
    return scores


def _of_volumes(volumes: VolumeScores) -> dict[str, Any]:
    found = volumes.compute()
    return {} if found is None else {"volumes": found}


def _test_units(records: Sequence[dict[str, Any]], folding: Folding) -> list[int] | None:
    """Numbers of the groups of test images; None if they have none."""
    if not folding.tested:
        return None
    numbers: dict[tuple[bool, str], int] = {}
    keys = [(one["image"] in folding.tested, folding.tested.get(one["image"], one["image"])) for one in records]
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _of_fold(fold: int, metrics: dict[str, Any]) -> dict[str, Any]:
    kept = {name: metrics.get(name) for name in ("best_epoch", "epochs", "steps")}
    scores = {
        split: {key: value for key, value in metrics[split].items() if key not in ("trivial", "per_class", "volumes")}
        for split in ("val", "test")
        if metrics.get(split)
    }
    return {"fold": fold, **kept, **scores}


def _median(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return statistics.median(known) if known else None
