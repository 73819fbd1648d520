"""Plots of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convlora.inspecting.receptive_field import Field
from convlora.report.figures import COLOURS, Drawing, drawable, drawing_style, new_figure

SIDES = ("base encoder", "adapted encoder")
SHARES = (0.5, 0.9)  # of a receptive field, within the circles
_MOST_NUMBERS = 16  # experts whose shares fit into their cells
_MOST_LABELS = 40


def distance_plot(base: Mapping[int, Sequence[float]], adapted: Mapping[int, Sequence[float]]) -> Drawing | None:
    """Mean attention distance of each head: blocks from left to right, a point for each head, a line of their means."""
    if not base or not adapted:
        return None
    title = "Mean attention distance of each head"
    from matplotlib.ticker import MaxNLocator

    with drawing_style(title):
        figure = new_figure(9.2, 3.4)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name, blocks, colour in zip(panels, SIDES, (base, adapted), COLOURS):
            points = [(block + 1, head) for block, heads in blocks.items() for head in heads]
            axes.plot(*zip(*points), "o", color=colour, markersize=3.5, alpha=0.65, label="a head")
            means = [(block + 1, sum(heads) / len(heads)) for block, heads in blocks.items()]
            axes.plot(*zip(*means), "-", color="#333333", linewidth=1.2, label="mean of a block")
            axes.set_title(name)
            axes.set_xlabel("block")
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("distance (pixels)")
        panels[0].legend(fontsize="small")
    return Drawing(title, figure)


def share_map(layers: Sequence[str], scales: Sequence[int], shares: np.ndarray) -> Drawing:
    """How often each layer chose each expert: layers from top to bottom, experts from left to right, in percent."""
    title = "How often each scale was chosen (%)"
    rows, columns = shares.shape
    with drawing_style(title):
        figure = new_figure(min(2.0 + 0.45 * columns, 11), min(1.1 + 0.26 * rows, 14))
        axes = figure.subplots()
        axes.grid(False)
        axes.pcolormesh(100 * shares, cmap="Blues", vmin=0, vmax=100)
        axes.set(ylim=(rows, 0), xlabel="scale of the expert", ylabel="layer")
        axes.set_title(title)
        axes.set_xticks(np.arange(columns) + 0.5, [str(scale) for scale in scales])
        step = math.ceil(rows / _MOST_LABELS)
        axes.set_yticks(np.arange(0, rows, step) + 0.5, [drawable(name, 22) for name in layers[::step]])
        if columns <= _MOST_NUMBERS:
            for (row, column), share in np.ndenumerate(shares):
                if share >= 0.005:
                    ink = "white" if share > 0.5 else "#222222"
                    axes.text(column + 0.5, row + 0.5, f"{100 * share:.0f}", ha="center", va="center", color=ink)
    return Drawing(title, figure)


def bar_plot(values: Mapping[str, float], *, title: str, x_label: str, y_label: str) -> Drawing | None:
    """A bar for each layer, in percent."""
    if not values:
        return None
    with drawing_style(title):
        figure = new_figure(min(2.2 + 0.3 * len(values), 9.2), 3.0)
        axes = figure.subplots()
        places = np.arange(len(values))
        axes.bar(places, [100 * value for value in values.values()], color=COLOURS[0], width=0.7)
        axes.grid(False, axis="x")
        step = math.ceil(len(values) / _MOST_LABELS)
        names = [drawable(name, 22) for name in values]
        turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 3 else {}
        kind: Any = turned
        axes.set_xticks(places[::step], names[::step], fontsize=8, **kind)
        axes.set_title(title)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
    return Drawing(title, figure)


def field_plot(base: Field, adapted: Field) -> Drawing:
    """Two effective receptive fields on the same scale, with the circles that hold the [`SHARES`]."""
    title = "Effective receptive field of the central cell"
    from matplotlib.patches import Circle

    brightest = max(float(np.sqrt(one.strength).max()) for one in (base, adapted))
    height, width = base.strength.shape
    with drawing_style(title):
        figure = new_figure(8.6, min(4.6 * height / width, 6.0) + 0.4)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name, one in zip(panels, SIDES, (base, adapted)):
            axes.grid(False)
            axes.imshow(
                np.sqrt(one.strength),
                cmap="magma",
                vmin=0,
                vmax=brightest,
                extent=(0, width, height, 0),
                aspect="equal",
            )
            for share, dash in zip(SHARES, ("-", "--")):
                radius = one.radius(share)
                circle = Circle(one.centre[::-1], radius, fill=False, color="white", linestyle=dash, linewidth=1.1)
                axes.add_patch(circle)
            axes.set_title(name)
            axes.set_xlabel("pixels")
        panels[0].set_ylabel("pixels")
    return Drawing(title, figure)
