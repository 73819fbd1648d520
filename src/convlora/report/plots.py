"""Line plots as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

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
    everything = [point for points in finite.values() for point in points]
    if not everything:
        return f"<p>{html.escape(title)}: nothing to draw.</p>"
    x_ticks = _ticks(min(x for x, _ in everything), max(x for x, _ in everything))
    lowest = 0.0 if from_zero else min(y for _, y in everything)
    y_ticks = _ticks(lowest, max(y for _, y in everything))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="{_LEFT}" y="18" font-weight="600">{html.escape(title)}</text>']
    for tick in y_ticks:
        _, y = place(x_ticks[0], tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, _ = place(tick, y_ticks[0])
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    for number, (name, points) in enumerate(finite.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(finite) > 1:
            parts.append(
                f'<text x="{_WIDTH - _RIGHT}" y="{_TOP + 14 * (number + 1)}" text-anchor="end" fill="{colour}">'
                f"{html.escape(name)}</text>"
            )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="12" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the `window - 1` before it, as far as there are any."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose an interval."""
    if high - low <= 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
