"""What the page of a run says in words and tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convlora.data.reading.volumes.slicing import Slicing
from convlora.metrics import HIGHER_IS_BETTER
from convlora.metrics.labels import SCORE_LABELS, short_label
from convlora.report.pages import score_text
from convlora.report.run_files import RunFiles
from convlora.runs.reading import imported_from

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
_MAIN_SCORES = ("miou", "iou")
_MOST_VOLUMES = 30  # of those shown one by one


def headline(run: RunFiles) -> list[str]:
    """The result in a few sentences."""
    split = run.split
    if split is None:
        software = imported_from(run.metrics)
        if software is not None:
            return [f"This model was trained by {software} and imported. convlora evaluate scores it on your data."]
        if run.is_finished:
            return ["All images were trained on, so there are no scores. The weights are those of the last epoch."]
        last = int(run.log[-1]["step"]) if run.log else 0
        return [f"This run is not finished: it has made {last:,} steps. Below is what there is so far."]
    scores = run.metrics[split]
    name = next((name for name in _MAIN_SCORES if name in scores), "iou")
    if run.metrics.get("folds"):
        return _headline_of_folds(run, name)
    label, value = short_label(name), scores.get(name)
    count = scores.get("num_images") or 0
    sentences = [f"{label[0].upper()}{label[1:]} {score_text(value)} on {_images(count, SPLIT_NAMES[split])}."]
    if split == "val" and run.metrics.get("best_epoch") is not None:
        sentences.append("The same images picked the best epoch, so the score is a little too good.")
    answers = {answer: one.get(name) for answer, one in (scores.get("trivial") or {}).items()}
    known = {answer: number for answer, number in answers.items() if number is not None}
    if known and value is not None:
        best = max(known, key=lambda answer: known[answer])
        words = f"the best answer that needs no image ({_plain(best)}): {known[best]:.3f}"
        if value > known[best]:
            sentences.append(f"For comparison, {words}.")
        else:
            sentences.append(f"That is not better than {words}. The model has learned nothing of use.")
    return sentences


def _headline_of_folds(run: RunFiles, name: str) -> list[str]:
    label, folds = short_label(name), run.metrics["folds"]
    of_all, scores = _with_interval(run, "val", name), run.metrics["val"]
    sentences = [
        f"{label[0].upper()}{label[1:]} {of_all} on {_images(scores['num_images'], 'held-out')}, each segmented by the "
        f"fold that was not trained on it ({folds} folds).",
        "The held-out images were also used to choose the best epoch of their fold, so the score is a little too good.",
    ]
    if run.metrics.get("test"):
        count = run.metrics["test"]["num_images"]
        sentences.append(f"All folds together: {_with_interval(run, 'test', name)} on {_images(count, 'test')}.")
    return sentences


def _with_interval(run: RunFiles, split: str, name: str) -> str:
    found = (run.metrics.get("interval") or {}).get(split)
    interval = "" if found is None else f" (95% interval {score_text(found['low'])} to {score_text(found['high'])})"
    return f"{score_text(run.metrics[split].get(name))}{interval}"


def fold_table(run: RunFiles) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows of the table of folds; None of a single run."""
    folds = run.metrics.get("fold_scores")
    if not folds:
        return None
    splits = [split for split in ("val", "test") if all(one.get(split) for one in folds)]
    name = next((name for name in _MAIN_SCORES if name in folds[0]["val"]), "iou")
    label = short_label(name)
    headers = {"val": f"{label}, held out", "test": f"{label}, test images"}
    rows = [
        [
            f"fold-{one['fold']}",
            str(one["val"]["num_images"]),
            *(score_text(one[split].get(name)) for split in splits),
            str(one.get("best_epoch")),
        ]
        for one in folds
    ]
    return ["fold", "images held out", *(headers[split] for split in splits), "best epoch"], rows


def repeat_command(run: RunFiles) -> str | None:
    """The command that trains the same again; None where another software has trained it."""
    if imported_from(run.metrics) is not None:
        return None
    return f"convlora train --config {shlex.quote(str(run.folder / 'config.yaml'))} --output NEW_RUN"


def resume_command(run: RunFiles) -> str:
    """The command that resumes an interrupted run."""
    return f"convlora train --output {shlex.quote(str(run.folder))} --resume"


def settings_rows(run: RunFiles) -> list[tuple[str, str]]:
    """The settings in short."""
    training = run.settings.get("training", {})
    method = run.settings["method"]
    options = {key: value for key, value in method.items() if key != "name" and value is not None}
    classes = [] if run.classes is None else list(run.classes.names)
    counts = [f"{run.counts[split]:,} {name}" for split, name in SPLIT_NAMES.items() if split in run.counts]
    size = run.setting("model", "image_size")
    best = run.metrics.get("best_epoch")
    rows = {
        "data": run.setting("data", "path"),
        "images": ", ".join(counts),
        "classes": ", ".join(classes[:12]) + (f" and {len(classes) - 12} more" if len(classes) > 12 else ""),
        "model": run.setting("model", "source"),
        "begun from": run.setting("model", "from_run"),
        "image size": " x ".join(map(str, size)) if isinstance(size, list) else size,
        "windows": _windows(run.setting("data", "window")),
        "bands": _bands(run.setting("data", "bands"), run.setting("model", "bands")),
        "input": Slicing.of(run.settings.get("data", {})).described(),
        "mask decoder": {"eomt": "queries in the encoder (EoMT)"}.get(str(run.setting("model", "decoder"))),
        "detail branch": run.setting("model", "detail"),
        "method": method["name"],
        "method options": ", ".join(f"{key} {value}" for key, value in options.items()),
        "length": _length(run, training),
        "best epoch": None if best is None else f"{best}, by {short_label(str(training.get('select_by')))}",
        "stopped early": run.metrics.get("stopped_early"),
        "images per step": _product(training.get("batch_size"), training.get("grad_accum")),
        "learning rate": _general(training.get("lr")),
        "loss": training.get("loss"),
        "augmentation": run.setting("data", "augmentation"),
        "seed": training.get("seed"),
    }
    if imported_from(run.metrics) is not None:  # the rest is not known
        rows = {name: rows[name] for name in ("classes", "model", "image size", "method", "method options")}
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "")]


def cost_rows(run: RunFiles) -> list[tuple[str, str]]:
    """What training took."""
    metrics = run.metrics
    params, step = metrics.get("params", {}), metrics.get("seconds_per_step")
    last = run.log[-1].get("seconds") if run.log else None
    versions = metrics.get("versions") or {}
    rows: dict[str, str | None] = {
        "parameters trained": f"{params['trainable']:,} of {params['total']:,} "
        f"({100 * params['trainable'] / max(1, params['total']):.2f}%)"
        if params
        else None,
        "time per step": None if step is None else f"{step:.3g} s",
        "time to train": duration(last) if isinstance(last, (int, float)) else None,
        "peak memory": f"{metrics['peak_memory_mb']:,.0f} MB" if metrics.get("peak_memory_mb") else None,
        "steps skipped": str(metrics["skipped_steps"]) if metrics.get("skipped_steps") else None,
        "computed on": ", ".join(str(metrics[name]) for name in ("device", "precision") if metrics.get(name)),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }
    return [(name, value) for name, value in rows.items() if value]


def score_table(run: RunFiles) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of scores."""
    called = {**SPLIT_NAMES, **({"val": "held out"} if run.metrics.get("folds") else {})}
    splits = {called[split]: run.metrics[split] for split in ("val", "test") if run.metrics.get(split)}
    columns: dict[str, Mapping[str, Any]] = dict(splits)
    trivial = run.metrics[run.split].get("trivial") or {} if run.split else {}
    columns |= {_plain(answer): scores for answer, scores in trivial.items()}
    names = [name for name in HIGHER_IS_BETTER if any(name in scores for scores in splits.values())]
    rows = [
        [
            SCORE_LABELS.get(name, name) + ("" if HIGHER_IS_BETTER[name] else " (lower is better)"),
            *(score_text(scores[name]) if name in scores else "" for scores in columns.values()),
        ]
        for name in names
    ]
    return ["score", *columns], rows


def threshold_sentence(run: RunFiles) -> str | None:
    """What the validation images say about the threshold of the foreground's probability."""
    found = run.metrics.get("threshold")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), float) for key in ("best", "iou_at_half")):
        return None
    best, at_half, count = found.get("iou"), found["iou_at_half"], run.counts.get("val", 0)
    if not isinstance(best, float):
        return None
    where = f"on the {_images(count, 'validation')}" if count else "on the validation images"
    if best - at_half < 0.005:
        return f"A pixel is foreground if its probability is above 0.5. No other threshold is clearly better {where}."
    return (
        f"A pixel is foreground if its probability is above 0.5. The threshold {found['best']:.2f} would give the best "
        f"IoU {where}: {best:.3f} instead of {at_half:.3f}. All scores on this page are those at 0.5."
    )


def class_table(run: RunFiles) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows of the scores of each class; None for binary tasks."""
    per_class = run.metrics[run.split].get("per_class") if run.split else None
    if not per_class:
        return None
    precisions = _precisions(run, len(per_class))
    rows = [
        [
            str(number),
            name,
            *(score_text(scores.get(key)) for key in ("iou", "dice")),
            score_text(precision),
            *(score_text(scores.get(key)) for key in ("accuracy", "boundary_f")),
            f"{100 * (scores.get('pixels') or 0):.2f}%",
        ]
        for number, ((name, scores), precision) in enumerate(zip(per_class.items(), precisions, strict=True), start=1)
    ]
    return ["", "class", "IoU", "Dice", "precision", "recall", "boundary F", "share of pixels"], rows


def volume_table(run: RunFiles) -> tuple[list[str], list[list[str]], int] | None:
    """Header and rows of the scores of volumes, the means first and then the worst; and how many volumes there are.

    None: the run was scored on no volumes, or by an older version.
    """
    found = run.metrics[run.split].get("volumes") if run.split else None
    if not found:
        return None
    each = sorted(found.get("each") or [], key=_dice_of)[:_MOST_VOLUMES]
    named = [("mean", found), *((one["volume"], one) for one in each)]
    rows = [
        [volume, name, score_text(scores.get("dice")), _distance(scores.get("hd95"), one["unit"])]
        for volume, one in named
        for name, scores in one["classes"].items()
    ]
    return ["volume", "class", "Dice", "95% Hausdorff distance"], rows, int(found["num_volumes"])


def _dice_of(volume: Mapping[str, Any]) -> float:
    known = [scores["dice"] for scores in volume["classes"].values() if scores["dice"] is not None]
    return sum(known) / len(known) if known else 1.0


def _distance(value: float | None, unit: str) -> str:
    return score_text(None) if value is None or unit == "mixed" else f"{value:.2f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _precisions(run: RunFiles, count: int) -> list[float | None]:
    """Share of what was predicted as each class that is right, over all images."""
    lines = [line for line in run.images if len(line.get("right", ())) == len(line.get("predicted", ())) == count]
    if not lines:
        return [None] * count
    right, predicted = (np.sum([line[name] for line in lines], axis=0) for name in ("right", "predicted"))
    return [float(one / all_) if all_ else None for one, all_ in zip(right, predicted)]


def _windows(window: Any) -> str | None:
    return None if window is None else f"of {window} pixels of the images, at their own resolution"


def _bands(picked: Any, count: Any) -> str | None:
    if isinstance(picked, list):
        return f"{', '.join(map(str, picked))}, counted from 1"
    return None if count is None else f"all {count}"


def _length(run: RunFiles, training: Mapping[str, Any]) -> str | None:
    if imported_from(run.metrics) is not None:
        return None
    if run.metrics.get("folds"):
        return f"{run.metrics['steps']:,} steps in {run.metrics['folds']} folds"
    if run.is_finished:
        return f"{run.metrics['steps']:,} steps in {run.metrics.get('epochs') or 0:g} epochs"
    return f"{training['epochs']} epochs planned" if training.get("epochs") else None


def _product(first: Any, second: Any) -> str | None:
    if not isinstance(first, int) or not isinstance(second, int):
        return None
    return f"{first * second} ({first} at a time)" if second > 1 else str(first)


def _general(value: Any) -> str | None:
    return f"{value:g}" if isinstance(value, (int, float)) else None


def _images(count: int, kind: str) -> str:
    return f"{count:,} {kind} image{'s' if count != 1 else ''}"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def name_of(path: Path) -> str:
    """What a run is called on its page."""
    return path.resolve().name or str(path)
