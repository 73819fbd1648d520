"""compare.html: the verdict, the table, plots, and the same images segmented by every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convlora.comparison.plan import PlannedRun
from convlora.comparison.plots import write_plots
from convlora.comparison.summary import Summary
from convlora.comparison.verdict import digits_for, drawn_units, verdict
from convlora.data.checking.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.reading.bands import picture_of
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.sources.groups import read_groups
from convlora.data.sources.opening import open_data
from convlora.inference.files.jobs import picture
from convlora.inference.segmenter import Segmenter
from convlora.metrics import HIGHER_IS_BETTER
from convlora.metrics.labels import SCORE_LABELS, short_label
from convlora.recipes.published import CAVEAT, texts
from convlora.report.pages import embedded
from convlora.report.pages import write_page as write_html
from convlora.report.plots import MOST_LEGEND

PICTURES = 4
_MOST_COLUMNS = 7


def write_page(summary: Summary, runs: Mapping[str, Sequence[PlannedRun]], output: Path) -> Path:
    """Writes `compare.html`, and its plots as SVG and PDF files to `plots`.

    Args:
        summary: The content of `compare.json`.
        runs: The runs that count, by the label of the method.
        output: The folder of the comparison.

    Returns:
        The file.
    """
    score, reference = summary["score"], summary["reference"]
    label = short_label(score)
    fractions = sorted({row["train_fraction"] for row in summary["rows"]}, reverse=True)
    rows = [row for row in summary["rows"] if row["train_fraction"] == fractions[0]]
    plots = write_plots(summary, runs, output)
    content: dict[str, Any] = {
        "title": f"Methods of fine-tuning compared on {Path(str(summary['data'])).name}",
        "verdict": verdict(summary),
        "split": "validation" if summary["split"] == "val" else summary["split"],
        "images": summary["images"],
        "units": f"{drawn_units(summary)[1]}s",
        "seeds": len(summary["seeds"]),
        "length": length_of_training(summary),
        "label": label,
        "reference": reference,
        "header": [
            "method", label, f"difference to {reference}", "lr", "trained weights", "steps", "s per step", "MB",
        ],
        "tables": [(fraction, table_rows(summary, fraction, digits=3)) for fraction in fractions],
        "trivial": [
            (name.replace("_", " "), scores[score]) for name, scores in summary["trivial"].items() if score in scores
        ],
        "plots": {name: [drawing.inline() for drawing in group] for name, group in plots._asdict().items()},
        "numbered": [row["method"] for row in rows] if len(rows) > MOST_LEGEND else [],
        "pictures": _pictures(summary, runs, output, fractions[0]),
        "all_scores": _all_scores(rows),
        "published": _published(summary["published"]),
        "caveat": CAVEAT,
    }  # fmt: skip
    return write_html(output / "compare.html", "compare.html", **content)


def length_of_training(summary: Summary) -> str:
    """What the methods of a comparison have in common: steps, or time."""
    seconds = summary.get("budget_seconds")
    if seconds is None:
        return "the same number of steps"
    return f"as many steps as fit into {seconds:g} s of training (validation not counted)"


def table_rows(summary: Summary, fraction: float, digits: int = 4) -> list[list[str]]:
    """Method, score, difference to the reference, rate, weights, steps, time and memory as text, best first.

    Args:
        summary: The content of `compare.json`.
        fraction: Share of the training images.
        digits: Decimals of the scores, at most; a difference has those that its interval supports.
    """
    score = summary["score"]
    rows = [row for row in summary["rows"] if row["train_fraction"] == fraction]
    lines = []
    for row in sorted(rows, key=lambda row: -row["mean"][score]):
        spread, difference, seconds = row["spread"].get(score), row.get("difference"), row["seconds_per_step"]
        lines.append(
            [
                row["method"],
                f"{row['mean'][score]:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}"),
                "" if difference is None else _difference(difference, digits),
                f"{row['lr']:g}",
                f"{row['trainable']:,}",
                f"{row['steps']:,}",
                "" if seconds is None else f"{seconds:.3g}",
                f"{row['peak_memory_mb']:,.0f}",
            ]
        )
    return lines


def _all_scores(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A table with its header in the first row: a column for each method, or with many methods a row."""
    names = [name for name in HIGHER_IS_BETTER if all(name in row["mean"] for row in rows)]
    labels = [SCORE_LABELS[name] + ("" if HIGHER_IS_BETTER[name] else " (lower is better)") for name in names]
    columns = [["", *labels], *([row["method"], *(f"{row['mean'][name]:.3f}" for name in names)] for row in rows)]
    return columns if len(rows) > _MOST_COLUMNS else [list(line) for line in zip(*columns, strict=True)]


def _published(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A table with its header in the first row; empty if nothing was published for the data."""
    if not rows:
        return []
    header = ["test images", "score", *(f"{name}, published" for name in rows[0]["published"]), *rows[0]["ours"]]
    lines = ((row, *texts(row)) for row in rows)
    return [header, *([row["test"], SCORE_LABELS[row["score"]], *theirs, *ours] for row, theirs, ours in lines)]


def _difference(difference: Mapping[str, float], most_digits: int) -> str:
    digits = min(digits_for(difference), most_digits)
    return "{} [{}, {}]".format(*(f"{difference[key]:+.{digits}f}" for key in ("mean", "low", "high")))


def _pictures(
    summary: Summary, runs: Mapping[str, Sequence[PlannedRun]], output: Path, fraction: float
) -> tuple[list[str], list[list[str]]]:
    settings = summary["settings"]["data"]
    source = open_data(str(summary["data"]), slicing=Slicing.of(settings))
    first = next(iter(runs.values()))[0].folder(output)
    segmenter = Segmenter.from_run(first)
    skip = settings["on_bad_image"] == "skip"
    report = check_data(
        source,
        full=skip,
        known=segmenter.classes,
        is_known=True,
        intensity=segmenter.intensity,
        leave_out=skip,
    )
    held_out = summary["split"] != "test" and not source.splits.get("val")
    groups = read_groups(source, source.splits, [problem.path for problem in report.skipped]) if held_out else {}
    source, classes = replace(source, splits=report.splits), report.classes or segmenter.classes
    if summary["split"] == "test":
        samples = source.split("test")
    else:
        _, samples = source.train_val(settings["split_seed"], settings["val_fraction"], groups)
    places = np.linspace(0, len(samples) - 1, min(PICTURES, len(samples))).round().astype(int)
    shown = [read_sample(samples[place], classes, segmenter.intensity) for place in places]
    pictures = [(picture_of(image), labels) for image, labels in shown]
    columns = [[embedded(image) for image, _ in pictures]]
    columns.append([embedded(picture(image, labels, classes)) for image, labels in pictures])
    for own in runs.values():
        run = next(run for run in own if run.fraction == fraction)
        segmenter = Segmenter.from_run(run.folder(output))
        maps = segmenter.predict_maps([image for image, _ in shown])
        columns.append(
            [embedded(picture(image, each, classes)) for (image, _), each in zip(pictures, maps, strict=True)]
        )
    return ["image", "truth", *runs], [list(row) for row in zip(*columns, strict=True)]
