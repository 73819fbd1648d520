"""A plot of more named points than there is room for names."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from convlora.report.axes import COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, nothing, short
from convlora.report.markup import escaped

_LEGEND = 260  # pixels beside the plot
_LETTERS = 35  # that fit there
_FAR = 3.0  # times the distance between the quartiles: what lies farther out is drawn at the edge
_TRIES = [(0, 0), (0, -11), (0, 11), (0, -22), (0, 22), (0, -33), (0, 33), (0, -44), (0, 44)]


def crowded_plot(
    points: Mapping[str, tuple[float, float]], *, title: str, x_label: str, spread: Mapping[str, float]
) -> str:
    """Draws points (x, y) with numbers, and the names beside the plot in the order of y, highest first.

    A few points far from the others would press these together, so they are drawn at the edge as rings, and their
    values stand beside their names.

    Args:
        points: By name; those that are not finite are left out.
        title: Above the plot.
        x_label: Below it.
        spread: Half the length of a bar up and down from each point.
    """
    finite = {name: (x, y) for name, (x, y) in points.items() if math.isfinite(x) and math.isfinite(y)}
    if not finite:
        return nothing(title)
    low_x, high_x = _limits([x for x, _ in finite.values()])
    low_y, high_y = _limits([y for _, y in finite.values()])
    near = [(x, y) for x, y in finite.values() if low_x <= x <= high_x and low_y <= y <= high_y]
    axes = Axes.around(near or list(finite.values()))
    if axes is None:
        return nothing(title)
    dots = [axes.place(*axes.within(x, y)) for x, y in finite.values()]
    parts, taken = [], [(left - 3, top + 4) for left, top in dots]  # numbers may not cover dots either
    for number, (name, (x, y)) in enumerate(sorted(finite.items(), key=lambda entry: -entry[1][1]), start=1):
        colour = COLOURS[(number - 1) % len(COLOURS)]
        shown_x, shown_y = axes.within(x, y)
        left, top = axes.place(shown_x, shown_y)
        inside = (shown_x, shown_y) == (x, y)
        if inside:
            high, low = (axes.place(*axes.within(x, y + sign * spread.get(name, 0.0)))[1] for sign in (1, -1))
            parts.append(f'<path d="M{left:.1f} {high:.1f}V{low:.1f}" stroke="{colour}" stroke-opacity=".5"/>')
        fill = colour if inside else "#fff"
        parts.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4" fill="{fill}" stroke="{colour}"/>')
        parts += _numbered(number, left, top, colour, taken)
        beyond = "" if inside else f" ({short(x)}, {y:.3g})"
        name = name if len(name) + len(beyond) <= _LETTERS else f"{name[: _LETTERS - len(beyond)]}…"
        parts.append(
            f'<text x="{WIDTH + 14}" y="{TOP + 12 * number - 4}" font-size="11" fill="{colour}">'
            f"{number} {escaped(name)}{beyond}</text>"
        )
    height = max(HEIGHT, TOP + 12 * len(finite) + 8)
    return axes.drawing(title, x_label, parts, width=WIDTH + _LEGEND, height=height)


def _numbered(number: int, left: float, top: float, colour: str, taken: list[tuple[float, float]]) -> list[str]:
    """The number of a point, beside it or as near as there is room."""
    for across in (8, -18, 22, -32, 36, -46):
        for _, down in _TRIES:
            x, y = left + across, top + down + 4
            fits = LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT
            if fits and all(abs(x - other) > 10 or abs(y - level) > 9 for other, level in taken):
                taken.append((x, y))
                line = (
                    f'<path d="M{left:.1f} {top:.1f}L{x + 3:.1f} {y - 4:.1f}" stroke="{colour}" stroke-opacity=".4"/>'
                )
                text = f'<text x="{x:.1f}" y="{y:.1f}" font-size="10" fill="{colour}">{number}</text>'
                return [line, text] if (across, down) not in ((8, 0), (-18, 0)) else [text]
    return []


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Between what bounds the bulk of some values lies."""
    if len(values) < 4:
        return min(values), max(values)
    first, _, third = statistics.quantiles(values, n=4)
    room = _FAR * max(third - first, 1e-3 * abs(third))
    return first - room, third + room
