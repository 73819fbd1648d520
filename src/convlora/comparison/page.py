"""compare.html: the table, plots, and the same images segmented by every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from convlora.comparison.plan import PlannedRun
from convlora.comparison.summary import Summary
from convlora.data.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.sources import open_data
from convlora.inference.predict import picture
from convlora.inference.segmenter import Segmenter
from convlora.metrics import HIGHER_IS_BETTER
from convlora.report.page import Page
from convlora.report.plots import MOST_NAMES, line_plot, point_plot

PICTURES = 4


def write_page(summary: Summary, runs: Mapping[str, Sequence[PlannedRun]], output: Path) -> Path:
    """Writes `compare.html`.

    Args:
        summary: The content of `compare.json`.
        runs: The runs that count, by the label of the method.
        output: The folder of the comparison.

    Returns:
        The file.
    """
    score, split = summary["score"], summary["split"]
    page = Page(f"Methods of fine-tuning compared on {Path(str(summary['data'])).name}")
    seeds = len(summary["seeds"])
    page.text(
        f"{summary['images']} {split} images, {seeds} seed{'s' if seeds > 1 else ''} each, the same images in the same "
        f"order, {length_of_training(summary)}, the best epoch on the validation images. Shown is {score}; ± is the "
        f"standard deviation over the seeds. Differences are to {summary['reference']}, with the 95% interval of a "
        "paired bootstrap over the images: it says what other images could have given, not what other seeds could."
    )
    largest = max(row["train_fraction"] for row in summary["rows"])
    rows = [row for row in summary["rows"] if row["train_fraction"] == largest]
    for fraction in sorted({row["train_fraction"] for row in summary["rows"]}, reverse=True):
        if fraction != 1:
            page.heading(f"{100 * fraction:g}% of the training images")
        page.table(
            [
                "method", score, f"difference to {summary['reference']}", "lr", "trained weights", "steps",
                "s per step", "MB",
            ],
            table_rows(summary, fraction),
        )  # fmt: skip
    for name, scores in summary["trivial"].items():
        if score in scores:
            page.text(f"Without looking at an image: {name.replace('_', ' ')} gives {scores[score]:.4f}.", small=True)
    page.heading("What it costs")
    if len(rows) > MOST_NAMES:
        page.text("Rings lie outside the plot; their values stand beside their names.", small=True)
    spread = {row["method"]: row["spread"].get(score, 0.0) for row in rows}
    for key, label, log in (
        ("trainable", "trained weights", True),
        ("seconds_per_step", "seconds per step", False),
        ("peak_memory_mb", "peak memory, MB", False),
    ):
        points = {row["method"]: (row[key], row["mean"][score]) for row in rows if row[key]}
        page.svg(point_plot(points, title=f"{score} by {label}", x_label=label, spread=spread, x_log=log))
    if len({row["train_fraction"] for row in summary["rows"]}) > 1:
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in sorted(summary["rows"], key=lambda row: row["train_fraction"]):
            lines.setdefault(row["method"], []).append((100 * row["train_fraction"], row["mean"][score]))
        page.heading("With fewer images")
        page.svg(line_plot(lines, title=f"{score} by share of the training images", x_label="percent"))
    page.heading(f"Some {split} images")
    page.text("Evenly spaced over the split, not picked. The first seed of each method.", small=True)
    page.pictures(*_pictures(summary, runs, output, largest))
    page.heading("All scores")
    names = [name for name in HIGHER_IS_BETTER if name in rows[0]["mean"]]
    page.table(
        ["method", *(f"{name} ({'higher' if HIGHER_IS_BETTER[name] else 'lower'})" for name in names)],
        [[row["method"], *(f"{row['mean'][name]:.4f}" for name in names)] for row in rows],
    )
    target = output / "compare.html"
    page.write(target)
    return target


def length_of_training(summary: Summary) -> str:
    """What the methods of a comparison have in common: steps, or time."""
    seconds = summary.get("budget_seconds")
    if seconds is None:
        return "the same number of steps"
    return f"as many steps as fit into {seconds:g} s of training (validation not counted)"


def table_rows(summary: Summary, fraction: float, digits: int = 4) -> list[list[str]]:
    """Method, score, difference to the reference, rate, weights, steps, time and memory as text, best first."""
    score = summary["score"]
    rows = [row for row in summary["rows"] if row["train_fraction"] == fraction]
    lines, keys = [], ("mean", "low", "high")
    for row in sorted(rows, key=lambda row: -row["mean"][score]):
        spread, difference, seconds = row["spread"].get(score), row.get("difference"), row["seconds_per_step"]
        lines.append(
            [
                row["method"],
                f"{row['mean'][score]:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}"),
                "" if difference is None else "{} [{}, {}]".format(*(f"{difference[key]:+.{digits}f}" for key in keys)),
                f"{row['lr']:g}",
                f"{row['trainable']:,}",
                f"{row['steps']:,}",
                "" if seconds is None else f"{seconds:.3g}",
                f"{row['peak_memory_mb']:,.0f}",
            ]
        )
    return lines


def _pictures(
    summary: Summary, runs: Mapping[str, Sequence[PlannedRun]], output: Path, fraction: float
) -> tuple[list[str], list[list[Image.Image]]]:
    settings = summary["settings"]["data"]
    source = open_data(str(summary["data"]))
    first = next(iter(runs.values()))[0].folder(output)
    segmenter = Segmenter.from_run(first)
    skip = settings["on_bad_image"] == "skip"
    report = check_data(
        source,
        full=skip,
        known=segmenter.classes,
        is_known=True,
        intensity=settings["intensity"],
        leave_out=skip,
    )
    source, classes = replace(source, splits=report.splits), report.classes or segmenter.classes
    if summary["split"] == "test":
        samples = source.split("test")
    else:
        _, samples = source.train_val(settings["split_seed"], settings["val_fraction"])
    places = np.linspace(0, len(samples) - 1, min(PICTURES, len(samples))).round().astype(int)
    shown = [read_sample(samples[place], classes, segmenter.intensity) for place in places]
    columns: list[list[Image.Image]] = [[image for image, _ in shown]]
    columns.append([picture(image, labels, classes) for image, labels in shown])
    for own in runs.values():
        run = next(run for run in own if run.fraction == fraction)
        segmenter = Segmenter.from_run(run.folder(output))
        maps = segmenter.predict_maps([image for image, _ in shown])
        columns.append([picture(image, each, classes) for (image, _), each in zip(shown, maps, strict=True)])
    return ["image", "truth", *runs], [list(row) for row in zip(*columns, strict=True)]
