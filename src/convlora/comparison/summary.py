"""Summing up a comparison: compare.json and compare.csv."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convlora.comparison.bootstrap import paired_difference, units_of
from convlora.comparison.plan import Plan, PlannedRun, shared_settings
from convlora.comparison.run import read_images, score_name
from convlora.comparison.verdict import compare_with_best
from convlora.errors import InputError, cell
from convlora.metrics import HIGHER_IS_BETTER
from convlora.recipes.published import beside, recipe_of_data
from convlora.runs.reading import read_metrics
from convlora.storage import write_json, write_text
from convlora.training.config import RunConfig

Summary = dict[str, Any]


def sum_up(plan: Plan, runs: Mapping[str, Sequence[PlannedRun]], output: Path) -> Summary:
    """Scores, spread, differences and costs of every method, written to `compare.json` and `compare.csv`.

    Args:
        plan: The comparison.
        runs: The runs that count, by the label of the method.
        output: The folder of the comparison.

    Returns:
        The content of `compare.json`.

    Raises:
        InputError: If a run is missing, or its images are not those of the others.
    """
    reference = plan.reference.label
    rows: list[dict[str, Any]] = []
    verdicts: dict[float, dict[str, Any]] = {}
    for fraction in plan.fractions:
        group = {label: [run for run in all_ if run.fraction == fraction] for label, all_ in runs.items()}
        images = {label: [read_images(run.folder(output)) for run in own] for label, own in group.items()}
        _check_images(images, output)
        for label, own in group.items():
            metrics = [_finished(run.folder(output)) for run in own]
            split = "test" if metrics[0].get("test") else "val"
            name = score_name(metrics[0][split])
            row = _row(label, own, metrics, split, output)
            if label != reference:
                difference = paired_difference(images[label], images[reference], name)
                row["difference"] = {"to": reference, **difference._asdict()}
            rows.append(row)
        shown = [row for row in rows if row["train_fraction"] == fraction]
        verdicts[fraction] = compare_with_best(shown, images, name)
    folder = next(iter(runs.values()))[0].folder(output)
    first, every = _finished(folder), [own[0] for own in images.values()]
    units, known = len(set(units_of(*every))), {key for records in every for one in records for key in one}
    split = "test" if first.get("test") else "val"
    summary: Summary = {
        "data": plan.base.data.path,
        "split": split,
        "score": score_name(first[split]),
        "reference": reference,
        "seeds": list(plan.seeds),
        "images": first[split]["num_images"],
        "volumes": units if "volume" in known else None,
        "groups": units if "group" in known else None,
        "budget_seconds": plan.base.training.budget_seconds,
        "trivial": {name: _numbers(scores) for name, scores in first[split].get("trivial", {}).items()},
        "rows": rows,
        "verdict": verdicts[max(plan.fractions)],
        "settings": shared_settings(plan.base),
        "published": _published(plan.base.data.path, rows, split),
    }
    write_json(output / "compare.json", summary)
    write_text(output / "compare.csv", _as_csv(rows))
    return summary


def _published(data: str | None, rows: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    """What was published for these test images, beside the scores of the methods on all training images."""
    recipe = recipe_of_data(data) if split == "test" else None
    if recipe is None:
        return []
    return beside(recipe, {row["method"]: row["mean"] for row in rows if row["train_fraction"] == 1})


def _row(
    label: str, runs: Sequence[PlannedRun], metrics: Sequence[dict[str, Any]], split: str, output: Path
) -> dict[str, Any]:
    scores = [_numbers(one[split]) for one in metrics]
    names = [name for name in scores[0] if all(name in one for one in scores)]  # older runs lack some
    seconds = [one["seconds_per_step"] for one in metrics if one["seconds_per_step"] is not None]
    return {
        "method": label,
        "train_fraction": runs[0].fraction,
        "lr": RunConfig.load(runs[0].folder(output) / "config.yaml").training.lr,
        "mean": {name: statistics.mean(one[name] for one in scores) for name in names},
        "spread": {name: statistics.stdev(one[name] for one in scores) for name in names if len(scores) > 1},
        "seeds": {str(run.seed): one for run, one in zip(runs, scores, strict=True)},
        "trainable": metrics[0]["params"]["trainable"],
        "total": metrics[0]["params"]["total"],
        "seconds_per_step": statistics.median(seconds) if seconds else None,
        "peak_memory_mb": max(one["peak_memory_mb"] for one in metrics),
        "steps": round(statistics.median(one["steps"] for one in metrics)),
    }


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: scores[name] for name in HIGHER_IS_BETTER if isinstance(scores.get(name), (int, float))}


def _finished(folder: Path) -> dict[str, Any]:
    metrics = read_metrics(folder)
    if metrics is None:
        raise InputError(f"The run {folder} is not finished. Give the command again to go on.")
    return metrics


def _check_images(images: Mapping[str, Sequence[Sequence[dict[str, Any]]]], output: Path) -> None:
    names = {tuple(one["image"] for one in run) for runs in images.values() for run in runs}
    if len(names) > 1:
        raise InputError(f"The runs in {output} were scored on different images. Start anew with another --output.")


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    names = [name for name in rows[0]["mean"] if all(name in row["mean"] for row in rows)]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        [
            "method", "train_fraction", "trainable", "total", "steps", "seconds_per_step", "peak_memory_mb",
            *(column for name in names for column in (name, f"{name}_spread")),
            "difference", "difference_low", "difference_high",
        ]
    )  # fmt: skip
    for row in rows:
        difference = row.get("difference", {})
        table.writerow(
            [
                cell(row["method"]),
                *(row[key] for key in ("train_fraction", "trainable", "total")),
                *(row[key] for key in ("steps", "seconds_per_step", "peak_memory_mb")),
                *(value for name in names for value in (row["mean"][name], row["spread"].get(name, ""))),
                *(difference.get(key, "") for key in ("mean", "low", "high")),
            ]
        )
    return text.getvalue()
