"""The plots of a comparison: validation curves, scores against costs, and scores with fewer images."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from convlora.comparison.plan import PlannedRun
from convlora.comparison.summary import Summary
from convlora.metrics.labels import short_label
from convlora.report.figures import Drawing
from convlora.report.plots import line_plot, point_plot
from convlora.runs.reading import read_metrics
from convlora.storage import make_folder

COSTS = {
    "trainable": ("weights", "trained weights"),
    "seconds_per_step": ("seconds", "seconds per step"),
    "peak_memory_mb": ("memory", "peak memory, MB"),
}
FOLDER = "plots"


class Plots(NamedTuple):
    """The plots in the groups in which the page shows them.

    Attributes:
        curves: Validation score by step.
        costs: Score against weights, time and memory.
        fractions: Score by share of the training images, if there are several.
    """

    curves: Sequence[Drawing]
    costs: Sequence[Drawing]
    fractions: Sequence[Drawing]


def write_plots(summary: Summary, runs: Mapping[str, Sequence[PlannedRun]], output: Path) -> Plots:
    """Draws the plots of a comparison and writes each as SVG and PDF.

    Args:
        summary: The content of `compare.json`.
        runs: The runs that count, by the label of the method.
        output: The folder of the comparison.
    """
    score, label = summary["score"], short_label(summary["score"])
    largest = max(row["train_fraction"] for row in summary["rows"])
    rows = [row for row in summary["rows"] if row["train_fraction"] == largest]
    folder = make_folder(output / FOLDER)
    curves = line_plot(
        {name: _curve([run for run in own if run.fraction == largest], output, score) for name, own in runs.items()},
        title=f"{label} on the validation images while training",
        x_label="step",
    )
    spread = {row["method"]: row["spread"].get(score, 0.0) for row in rows}
    costs = {
        file: point_plot(
            {row["method"]: (row[key], row["mean"][score]) if row[key] else _NOWHERE for row in rows},
            title=f"{label} by {words}",
            x_label=words,
            y_label=label,
            spread=spread,
            x_log=True,
        )
        for key, (file, words) in COSTS.items()
    }
    lines = defaultdict[str, list[tuple[float, float]]](list)
    for row in sorted(summary["rows"], key=lambda row: row["train_fraction"]):
        lines[row["method"]].append((100 * row["train_fraction"], row["mean"][score]))
    fractions = line_plot(lines, title=f"{label} by share of the training images", x_label="percent")
    if len({row["train_fraction"] for row in summary["rows"]}) == 1:
        fractions = None
    for file, drawing in {"curves": curves, **costs, "fractions": fractions}.items():
        if drawing is not None:
            drawing.save(folder / file)
    return Plots(*(_there(group) for group in ([curves], [*costs.values()], [fractions])))


_NOWHERE = (float("nan"), float("nan"))  # keeps its place, so that colours are the same in all plots


def _curve(runs: Sequence[PlannedRun], output: Path, score: str) -> list[tuple[float, float]]:
    """The mean over the seeds after each number of steps at which all of them were validated."""
    values = defaultdict[int, list[float]](list)
    for run in runs:
        for entry in (read_metrics(run.folder(output)) or {}).get("history") or []:
            if isinstance(entry.get(score), (int, float)):
                values[entry["step"]].append(entry[score])
    return [(step, statistics.mean(one)) for step, one in sorted(values.items()) if len(one) == len(runs)]


def _there(drawings: Sequence[Drawing | None]) -> list[Drawing]:
    return [drawing for drawing in drawings if drawing is not None]
