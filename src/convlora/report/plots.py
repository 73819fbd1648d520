"""Plots of curves and of scores against costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from convlora.report.figures import COLOURS, DASHES, MARKERS, Drawing, drawable, drawing_style, new_figure

MOST_POINTS = 400  # of a line; more cannot be seen, and make pages slow
MOST_LEGEND = 8
_FAR = 3.0  # times the distance between the quartiles: what lies farther out is drawn at the edge

Points = Sequence[tuple[float, float]]


class Mark(NamedTuple):
    """A place on the horizontal axis that is pointed out.

    Attributes:
        x: The place.
        text: What is there.
    """

    x: float
    text: str


def line_plot(
    lines: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    faint: Points = (),
    mark: Mark | None = None,
    from_zero: bool = False,
) -> Drawing | None:
    """Draws lines of points (x, y).

    Args:
        lines: By name; points that are not finite are left out.
        title: Above the plot.
        x_label: Below it.
        faint: A line without a name behind the others, such as the values before they were smoothed.
        mark: Drawn as a dashed line, with a dot on the first line.
        from_zero: Whether the vertical axis starts at zero.

    Returns:
        The plot; None if there is nothing to draw.
    """
    kept = {name: _finite(points) for name, points in lines.items()}
    if not any(kept.values()):
        return None
    from matplotlib.ticker import MaxNLocator

    rows = math.ceil(len(kept) / 2) if len(kept) > 1 else 0
    with drawing_style(title):
        figure = new_figure(4.6, 2.8 + 0.18 * min(rows, 12))
        axes = figure.subplots()
        if behind := _finite(faint):
            axes.plot(*zip(*behind), color="#bbbbbb", linewidth=0.8)
        for (name, points), (dash, colour) in zip(kept.items(), _looks(len(kept))):
            alone = "o" if len(points) == 1 else ""
            axes.plot(*zip(*points), dash, color=colour, marker=alone, label=drawable(name)) if points else None
        if mark is not None:
            _draw_mark(axes, mark, next(iter(kept.values())))
        if from_zero:
            axes.set_ylim(bottom=0)
        if all(float(x).is_integer() for points in kept.values() for x, _ in points):
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        axes.set_title(drawable(title, 60))
        axes.set_xlabel(drawable(x_label, 60))
        if rows:
            figure.legend(loc="outside lower left", ncols=2, fontsize="small")
    return Drawing(title, figure)


def point_plot(
    points: Mapping[str, tuple[float, float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    spread: Mapping[str, float] | None = None,
    x_log: bool = False,
) -> Drawing | None:
    """Draws named points (x, y). More than [`MOST_LEGEND`] are numbered in their order instead of named.

    A point far above or below the others would press these together, so it is drawn at the edge, hollow.

    Args:
        points: By name; those that are not finite are left out.
        title: Above the plot.
        x_label: Below it.
        y_label: Beside it.
        spread: Half the length of a bar up and down from each point.
        x_log: Whether the horizontal axis is logarithmic; all x must be above 0 then.

    Returns:
        The plot; None if there is nothing to draw.
    """
    kept = {name: point for name, point in points.items() if _finite([point])}
    if not kept:
        return None
    numbered = len(kept) > MOST_LEGEND
    low, high = _limits([y for _, y in kept.values()])
    rows = 0 if numbered else math.ceil(len(kept) / 2)
    with drawing_style(title):
        figure = new_figure(4.6, 2.8 + 0.18 * rows)
        axes = figure.subplots()
        for number, (name, (x, y)) in enumerate(points.items(), start=1):
            if name not in kept:
                continue
            colour, marker = COLOURS[(number - 1) % len(COLOURS)], MARKERS[(number - 1) % len(MARKERS)]
            inside = low <= y <= high
            y = min(max(y, low), high)
            bar = (spread or {}).get(name, 0.0) if inside else 0.0
            axes.errorbar(
                x,
                y,
                yerr=bar or None,
                fmt=marker,
                color=colour,
                markerfacecolor=colour if inside else "white",
                label=drawable(name),
            )
            if numbered:
                axes.annotate(str(number), (x, y), (4, 4), textcoords="offset points", fontsize="small", color=colour)
        if x_log:
            _set_log(axes, [x for x, _ in kept.values()])
        axes.set_title(drawable(title, 60))
        axes.set_xlabel(drawable(x_label, 60))
        axes.set_ylabel(drawable(y_label, 40))
        axes.margins(0.12)
        if rows:
            figure.legend(loc="outside lower left", ncols=2, fontsize="small")
    return Drawing(title, figure)


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the `window - 1` before it, as far as there are any."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def short(number: float) -> str:
    """Three digits at most: `200k` for 200,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _finite(points: Points) -> list[tuple[float, float]]:
    """The points that can be drawn, thinned out where there are too many to see."""
    kept = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    step = math.ceil(len(kept) / MOST_POINTS) if kept else 1
    return [*kept[:-1:step], kept[-1]] if step > 1 else kept


def _looks(count: int) -> list[tuple[str, str]]:
    """Dash and colour of each line."""
    every = list(product(DASHES, COLOURS))
    return [every[number % len(every)] for number in range(count)]


def _draw_mark(axes: Any, mark: Mark, points: Points) -> None:
    axes.axvline(mark.x, color="#666666", linewidth=0.8, linestyle="--")
    heights = dict(points)
    if mark.x in heights:
        axes.plot([mark.x], [heights[mark.x]], "o", color=COLOURS[0], markersize=6)
    xs = [x for x, _ in points]
    right = bool(xs) and mark.x > (min(xs) + max(xs)) / 2
    axes.annotate(
        drawable(mark.text),
        (mark.x, 0.02),
        (-4 if right else 4, 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize="small",
        color="#444444",
    )


def _set_log(axes: Any, values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axis = axes.xaxis
    wide = max(values) / min(values) > 1000
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Between what bounds the bulk of some values lies."""
    if len(values) < 4:
        return min(values), max(values)
    first, _, third = statistics.quantiles(values, n=4)
    room = _FAR * max(third - first, 1e-3 * abs(third))
    return first - room, third + room
