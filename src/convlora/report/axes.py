"""Two axes of a plot, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convlora.report.markup import escaped

# Okabe and Ito's colours, which people with colour-blindness can tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 30, 44


@dataclass(frozen=True)
class Axes:
    """Two axes with their ticks."""

    x_ticks: list[float]
    y_ticks: list[float]
    x_log: bool

    @classmethod
    def around(cls, points: Sequence[tuple[float, float]], from_zero: bool = False, x_log: bool = False) -> Axes | None:
        """Axes that hold all points; None if there is none."""
        if not points:
            return None
        xs, ys = zip(*points)
        x_ticks = _log_ticks(min(xs), max(xs)) if x_log else _ticks(min(xs), max(xs))
        return cls(x_ticks, _ticks(0.0 if from_zero else min(ys), max(ys)), x_log)

    def within(self, x: float, y: float) -> tuple[float, float]:
        """The nearest point inside the plot."""
        return (
            min(max(x, self.x_ticks[0]), self.x_ticks[-1]),
            min(max(y, self.y_ticks[0]), self.y_ticks[-1]),
        )

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the left and from the top."""
        scale = math.log10 if self.x_log else float
        first, last = scale(self.x_ticks[0]), scale(self.x_ticks[-1])
        across = (scale(x) - first) / (last - first)
        up = (y - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def drawing(self, title: str, x_label: str, inside: Sequence[str], width: int = WIDTH, height: int = HEIGHT) -> str:
        """The whole SVG, with room to the right and below if it is to be larger."""
        parts = [f'<text x="{LEFT}" y="18" font-weight="600">{escaped(title)}</text>']
        for tick in self.y_ticks:
            _, y = self.place(self.x_ticks[0], tick)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in self.x_ticks:
            x, _ = self.place(tick, self.y_ticks[0])
            text = short(tick) if self.x_log or tick >= 1e4 else f"{tick:g}"
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
        parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escaped(x_label)}</text>')
        return (
            f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-size="12" '
            f'font-family="system-ui, sans-serif" role="img" aria-label="{escaped(title)}">'
            f"{''.join([*parts, *inside])}</svg>"
        )


def nothing(title: str) -> str:
    """What stands in the place of an empty plot."""
    return f"<p>{escaped(title)}: nothing to draw.</p>"


def short(number: float) -> str:
    """Three digits at most: `200k` for 200,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


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
