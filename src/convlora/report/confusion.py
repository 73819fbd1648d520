"""The confusion matrix of several classes as a table and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convlora.errors import cell
from convlora.report.figures import Drawing, drawable, drawing_style, new_figure
from convlora.storage import write_text
from convlora.untrusted import read_text

MOST_DRAWN = 500  # classes
_MOST_NUMBERS = 24  # classes whose shares fit into their cells
_MOST_NAMES = 60
TITLE = "Percent of each true class"


def write_confusion(folder: Path, names: Sequence[str], confusion: np.ndarray) -> None:
    """Writes `confusion.csv`, in pixels, and `confusion.svg` and `confusion.pdf`, in shares of each true class.

    Args:
        folder: Where to.
        names: The classes. Of more than [`MOST_DRAWN`] there is no picture.
        confusion: `(K, K)`, truth in rows and prediction in columns.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["truth \\ prediction", *map(cell, names)])
    for name, row in zip(names, confusion, strict=True):
        table.writerow([cell(name), *map(int, row)])
    write_text(folder / "confusion.csv", text.getvalue())
    drawing = confusion_plot(names, confusion)
    if drawing is not None:
        drawing.save(folder / "confusion")


def read_confusion(folder: Path, num_classes: int) -> np.ndarray | None:
    """The counts of `confusion.csv`, `(K, K)` int64; None if the file is missing or damaged."""
    try:
        rows = list(csv.reader(io.StringIO(read_text(folder / "confusion.csv", largest=1 << 30))))[1:]
        confusion = np.array([[int(value) for value in row[1:]] for row in rows], dtype=np.int64)
    except (OSError, ValueError, OverflowError, csv.Error):
        return None
    return confusion if confusion.shape == (num_classes, num_classes) and (confusion >= 0).all() else None


def confusion_plot(names: Sequence[str], confusion: np.ndarray) -> Drawing | None:
    """The picture: the darker, the larger the share of the true class. Rows of classes that do not occur stay empty."""
    count = len(names)
    if count > MOST_DRAWN:
        return None
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.full(confusion.shape, np.nan), where=totals > 0)
    with drawing_style(TITLE):
        side = min(1.6 + 0.36 * count, 11.0)
        figure = new_figure(side + 0.6, side)
        axes = figure.subplots()
        axes.grid(False)
        axes.pcolormesh(100 * shares, cmap="Blues", vmin=0, vmax=100, rasterized=count > _MOST_NAMES)
        axes.set(aspect="equal", ylim=(count, 0), xlabel="prediction", ylabel="truth")
        axes.set_title(TITLE)
        for spine in axes.spines.values():
            spine.set_visible(True)
        if count <= _MOST_NAMES:
            labels = [f"{number} {drawable(name, 18)}" for number, name in enumerate(names, start=1)]
            middles = np.arange(count) + 0.5
            size = 8 if count <= _MOST_NUMBERS else 6
            axes.set_xticks(middles, labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
            axes.set_yticks(middles, labels, fontsize=size)
        if count <= _MOST_NUMBERS:
            for (row, column), share in np.ndenumerate(shares):
                if share >= 0.005:
                    ink = "white" if share > 0.5 else "#222222"
                    axes.text(
                        column + 0.5, row + 0.5, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=8
                    )
    return Drawing(TITLE, figure)
