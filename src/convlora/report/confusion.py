"""The confusion matrix of several classes as a table and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convlora.errors import cell
from convlora.report.markup import escaped
from convlora.storage import write_text

_CELL, _LABELS = 34, 150


def write_confusion(folder: Path, names: Sequence[str], confusion: np.ndarray) -> None:
    """Writes `confusion.csv`, in pixels, and `confusion.svg`, in shares of each true class.

    Args:
        folder: Where to.
        names: The classes.
        confusion: `(K, K)`, truth in rows and prediction in columns.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["truth \\ prediction", *map(cell, names)])
    for name, row in zip(names, confusion, strict=True):
        table.writerow([cell(name), *map(int, row)])
    write_text(folder / "confusion.csv", text.getvalue())
    write_text(folder / "confusion.svg", confusion_svg(names, confusion))


def confusion_svg(names: Sequence[str], confusion: np.ndarray) -> str:
    """The picture: the darker, the larger the share of the true class; rows of classes that do not occur stay empty."""
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    side = len(names) * _CELL
    parts = []
    for row, name in enumerate(names):
        middle = row * _CELL + _CELL / 2
        label = escaped(name)
        parts.append(f'<text x="{_LABELS - 6}" y="{_LABELS + middle + 4}" text-anchor="end">{label}</text>')
        parts.append(f'<text transform="translate({_LABELS + middle + 4} {_LABELS - 6}) rotate(-60)">{label}</text>')
        for column, share in enumerate(shares[row]):
            if share < 0.005:
                continue
            x, y = _LABELS + column * _CELL, _LABELS + row * _CELL
            ink = "#fff" if share > 0.5 else "#222"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="#0072b2" fill-opacity="{share:.3f}"/>'
                f'<text x="{x + _CELL / 2}" y="{y + _CELL / 2 + 4}" text-anchor="middle" fill="{ink}">'
                f"{100 * share:.0f}</text>"
            )
    frame = f'<rect x="{_LABELS}" y="{_LABELS}" width="{side}" height="{side}" fill="none" stroke="#999"/>'
    total = side + _LABELS + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{total}" viewBox="0 0 {total} {total}" '
        f'font-size="11" font-family="system-ui, sans-serif"><rect width="{total}" height="{total}" fill="#fff"/>'
        f'<text x="6" y="16">Rows: truth. Columns: prediction. Percent of each row.</text>{"".join(parts)}{frame}'
        "</svg>\n"
    )
