"""Line and point plots as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from convlora.report.axes import COLOURS, HEIGHT, LEFT, WIDTH, Axes, nothing
from convlora.report.crowded import crowded_plot
from convlora.report.markup import escaped

MOST_NAMES = 8  # that fit beside their points


def line_plot(
    lines: Mapping[str, Sequence[tuple[float, float]]], *, title: str, x_label: str, from_zero: bool = False
) -> str:
    """Draws lines of points (x, y).

    Args:
        lines: By name; points that are not finite are left out.
        title: Above the plot.
        x_label: Below it.
        from_zero: Whether the vertical axis starts at zero.
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for name, points in lines.items()
    }
    axes = Axes.around([point for points in finite.values() for point in points], from_zero=from_zero)
    if axes is None:
        return nothing(title)
    parts = []
    for number, points in enumerate(finite.values()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (axes.place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" {_stroke(number)}/>')
    height = HEIGHT
    if len(finite) > 1:
        names, height = _names_below(list(finite))
        parts += names
    return axes.drawing(title, x_label, parts, height=height)


def _names_below(names: Sequence[str]) -> tuple[list[str], int]:
    """A short line and a name for each line of a plot, side by side below it; and the height of the whole."""
    parts, left, level = [], LEFT, HEIGHT + 14
    for number, name in enumerate(names):
        wide = 40 + 7 * len(name)
        if left > LEFT and left + wide > WIDTH:
            left, level = LEFT, level + 18
        parts.append(f'<path d="M{left} {level - 4}h18" {_stroke(number)}/>')
        parts.append(f'<text x="{left + 24}" y="{level}">{escaped(name)}</text>')
        left += wide
    return parts, level + 8


def _stroke(number: int) -> str:
    """How the line of a number is drawn: with more lines than colours, the others are dashed."""
    dashes = ("", ' stroke-dasharray="7 4"', ' stroke-dasharray="2 3"')[number // len(COLOURS) % 3]
    return f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="2"{dashes}'


def point_plot(
    points: Mapping[str, tuple[float, float]],
    *,
    title: str,
    x_label: str,
    spread: Mapping[str, float] | None = None,
    x_log: bool = False,
) -> str:
    """Draws named points (x, y); many of them are numbered, and the names stand beside the plot.

    Args:
        points: By name; those that are not finite are left out.
        title: Above the plot.
        x_label: Below it.
        spread: Half the length of a bar up and down from each point.
        x_log: Whether the horizontal axis is logarithmic; all x must be above 0 then.
    """
    finite = {name: (x, y) for name, (x, y) in points.items() if math.isfinite(x) and math.isfinite(y)}
    if len(finite) > MOST_NAMES:
        return crowded_plot(finite, title=title, x_label=x_label, spread=spread or {})
    bars = {name: (spread or {}).get(name, 0.0) for name in finite}
    ends = [(x, y + sign * bars[name]) for name, (x, y) in finite.items() for sign in (-1, 1)]
    axes = Axes.around(ends, x_log=x_log)
    if axes is None:
        return nothing(title)
    parts, taken = [], list[tuple[float, float]]()
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(points)}  # as in other plots of them
    for name, (x, y) in sorted(finite.items(), key=lambda entry: -entry[1][1]):
        colour = colours[name]
        (left, top), (_, high), (_, low) = (
            axes.place(x, y),
            axes.place(x, y + bars[name]),
            axes.place(x, y - bars[name]),
        )
        parts.append(f'<path d="M{left:.1f} {high:.1f}V{low:.1f}" stroke="{colour}" stroke-opacity=".5"/>')
        parts.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4" fill="{colour}"/>')
        beside, end = (left + 7, "start") if left < 0.7 * WIDTH else (left - 7, "end")
        level = top + 4
        while any(abs(beside - other) < 90 and abs(level - height) < 11 for other, height in taken):
            level += 4  # names of points that lie close would cover each other
        taken.append((beside, level))
        if level > top + 10:
            parts.append(f'<path d="M{left:.1f} {top:.1f}L{beside:.1f} {level - 4:.1f}" stroke="{colour}"/>')
        parts.append(
            f'<text x="{beside:.1f}" y="{level:.1f}" text-anchor="{end}" fill="{colour}">{escaped(name)}</text>'
        )
    return axes.drawing(title, x_label, parts)


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the `window - 1` before it, as far as there are any."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]
