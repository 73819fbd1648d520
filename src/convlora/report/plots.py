"""Line and point plots as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Okabe and Ito's colours, which people with colour-blindness can tell apart.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
_WIDTH, _HEIGHT = 440, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 30, 44


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
    axes = _Axes.around([point for points in finite.values() for point in points], from_zero=from_zero)
    if axes is None:
        return _nothing(title)
    parts = []
    for number, (name, points) in enumerate(finite.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (axes.place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(finite) > 1:
            parts.append(
                f'<text x="{_WIDTH - _RIGHT}" y="{_TOP + 14 * (number + 1)}" text-anchor="end" fill="{colour}">'
                f"{html.escape(name)}</text>"
            )
    return axes.drawing(title, x_label, parts)


def point_plot(
    points: Mapping[str, tuple[float, float]],
    *,
    title: str,
    x_label: str,
    spread: Mapping[str, float] | None = None,
    x_log: bool = False,
) -> str:
    """Draws named points (x, y).

    Args:
        points: By name; those that are not finite are left out.
        title: Above the plot.
        x_label: Below it.
        spread: Half the length of a bar up and down from each point.
        x_log: Whether the horizontal axis is logarithmic; all x must be above 0 then.
    """
    finite = {name: (x, y) for name, (x, y) in points.items() if math.isfinite(x) and math.isfinite(y)}
    bars = {name: (spread or {}).get(name, 0.0) for name in finite}
    ends = [(x, y + sign * bars[name]) for name, (x, y) in finite.items() for sign in (-1, 1)]
    axes = _Axes.around(ends, x_log=x_log)
    if axes is None:
        return _nothing(title)
    parts, taken = [], list[tuple[float, float]]()
    for number, (name, (x, y)) in enumerate(sorted(finite.items(), key=lambda entry: -entry[1][1])):
        colour = _COLOURS[number % len(_COLOURS)]
        (left, top), (_, high), (_, low) = (
            axes.place(x, y),
            axes.place(x, y + bars[name]),
            axes.place(x, y - bars[name]),
        )
        parts.append(f'<path d="M{left:.1f} {high:.1f}V{low:.1f}" stroke="{colour}" stroke-opacity=".5"/>')
        parts.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4" fill="{colour}"/>')
        beside, end = (left + 7, "start") if left < 0.7 * _WIDTH else (left - 7, "end")
        level = top + 4
        while any(abs(beside - other) < 90 and abs(level - height) < 11 for other, height in taken):
            level += 4  # names of points that lie close would cover each other
        taken.append((beside, level))
        if level > top + 10:
            parts.append(f'<path d="M{left:.1f} {top:.1f}L{beside:.1f} {level - 4:.1f}" stroke="{colour}"/>')
        parts.append(
            f'<text x="{beside:.1f}" y="{level:.1f}" text-anchor="{end}" fill="{colour}">{html.escape(name)}</text>'
        )
    return axes.drawing(title, x_label, parts)


@dataclass(frozen=True)
class _Axes:
    """Two axes with their ticks."""

    x_ticks: list[float]
    y_ticks: list[float]
    x_log: bool

    @classmethod
    def around(
        cls, points: Sequence[tuple[float, float]], from_zero: bool = False, x_log: bool = False
    ) -> _Axes | None:
        if not points:
            return None
        xs, ys = zip(*points)
        x_ticks = _log_ticks(min(xs), max(xs)) if x_log else _ticks(min(xs), max(xs))
        return cls(x_ticks, _ticks(0.0 if from_zero else min(ys), max(ys)), x_log)

    def place(self, x: float, y: float) -> tuple[float, float]:
        scale = math.log10 if self.x_log else float
        first, last = scale(self.x_ticks[0]), scale(self.x_ticks[-1])
        across = (scale(x) - first) / (last - first)
        up = (y - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    def drawing(self, title: str, x_label: str, inside: Sequence[str]) -> str:
        parts = [f'<text x="{_LEFT}" y="18" font-weight="600">{html.escape(title)}</text>']
        for tick in self.y_ticks:
            _, y = self.place(self.x_ticks[0], tick)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in self.x_ticks:
            x, _ = self.place(tick, self.y_ticks[0])
            text = _short(tick) if self.x_log else f"{tick:g}"
            parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{text}</text>')
        parts.append(
            f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
        )
        return (
            f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="12" '
            f'font-family="system-ui, sans-serif" role="img" aria-label="{html.escape(title)}">'
            f"{''.join([*parts, *inside])}</svg>"
        )


def _nothing(title: str) -> str:
    return f"<p>{html.escape(title)}: nothing to draw.</p>"


def _short(number: float) -> str:
    """`200k` for 200,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the `window - 1` before it, as far as there are any."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... times a power of ten, as far as they enclose an interval; fewer where it is wide."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-12)
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    every = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    start = max((tick for tick in every if tick <= low), default=every[0])
    end = min((tick for tick in every if tick >= high), default=every[-1])
    if start == end:
        return [start / 2, start, start * 2]
    return [tick for tick in every if start <= tick <= end]


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose an interval."""
    if high - low <= 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
