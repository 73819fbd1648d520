"""Outlines: closed polygons around the origin, about one unit in radius, as `(n, 2)` arrays of (x, y)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Outline = np.ndarray


def blob(rng: np.random.Generator) -> Outline:
    """A round thing with a wavy border, more or less elongated."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.ones_like(angles)
    wildness = rng.uniform(0, 0.35) ** 1.3
    for waves in range(2, 7):
        radius += wildness * rng.normal() / waves * 1.4 * np.cos(waves * angles + rng.uniform(0, 2 * np.pi))
    points = radius.clip(0.25)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points * np.array([1.0, rng.uniform(0.45, 1.0)])


def rounded_box(rng: np.random.Generator) -> Outline:
    """Between a rectangle and an ellipse."""
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    power = rng.uniform(0.15, 1.0)
    corner = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.sign(corner) * np.abs(corner) ** power
    return points * np.array([1.0, rng.uniform(0.25, 1.0)])


def polygon(rng: np.random.Generator) -> Outline:
    """A few corners, sometimes a star."""
    corners = int(rng.integers(3, 9))
    angles = (
        np.sort(rng.uniform(0, 2 * np.pi, corners))
        if rng.random() < 0.5
        else np.linspace(0, 2 * np.pi, corners + 1)[:-1]
    )
    radius = rng.uniform(0.6, 1.0, corners)
    if rng.random() < 0.3:
        angles = np.linspace(0, 2 * np.pi, 2 * corners + 1)[:-1]
        radius = np.where(np.arange(2 * corners) % 2, rng.uniform(0.4, 0.7), 1.0)
    return radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def leaf(rng: np.random.Generator) -> Outline:
    """Two arcs that meet in points, with a wavy or toothed border."""
    along = np.linspace(-1, 1, 40)
    width = rng.uniform(0.25, 0.6) * (1 - along**2) ** rng.uniform(0.6, 1.2) * (1 - rng.uniform(0, 0.5) * along)
    teeth = 1 + rng.uniform(0, 0.18) * np.sin(along * rng.uniform(8, 30))
    bend = rng.uniform(-0.35, 0.35) * along**2
    upper, lower = bend + width * teeth, bend - width * teeth
    return np.concatenate([np.stack([along, upper], axis=1), np.stack([along, lower], axis=1)[::-1]])


def curve(rng: np.random.Generator) -> Outline:
    """A thin band along a winding line."""
    steps = 24
    turn = np.cumsum(rng.normal(0, rng.uniform(0.05, 0.35), steps))
    line = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], axis=1), axis=0)
    line -= line.mean(axis=0)
    line /= np.abs(line).max() + 1e-6
    normal = np.stack([-np.sin(turn), np.cos(turn)], axis=1)
    half = rng.uniform(0.025, 0.12) * (1 + 0.3 * np.sin(np.linspace(0, rng.uniform(0, 9), steps)))[:, None]
    return np.concatenate([line + half * normal, (line - half * normal)[::-1]])


def network(
    rng: np.random.Generator, start: np.ndarray, scale: float, half_width: tuple[float, float] = (1.0, 2.6)
) -> list[Outline]:
    """Thin bands that wander, taper and branch, in pixels.

    Args:
        rng: Decides everything.
        start: Where the first two begin, (x, y).
        scale: What a pixel is multiplied by in larger images.
        half_width: Smallest and largest half of the width where they begin, in pixels before scaling.
    """
    heading, half = rng.uniform(0, 2 * np.pi), rng.uniform(*half_width) * scale
    waiting = [(start, heading, half, 0), (start, heading + np.pi, half, 0)]
    pieces = []
    while waiting:
        place, heading, half, generation = waiting.pop()
        count = int(rng.integers(14, 40) / (1 + generation))
        turns = heading + np.cumsum(rng.normal(0, 0.22, count)) * 0.6 + rng.normal(0, 0.3, count)
        line = place + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0) * 6 * scale
        taper = np.linspace(1, 0.35, count)[:, None] * half * rng.uniform(0.6, 1.3, (count, 1))
        normal = np.stack([-np.sin(turns), np.cos(turns)], axis=1)
        pieces.append(np.concatenate([line + taper * normal, (line - taper * normal)[::-1]]))
        if generation < 2:
            for _ in range(rng.integers(0, 3)):
                at = int(rng.integers(2, count))
                waiting.append(
                    (line[at], turns[at] + rng.choice((-1, 1)) * rng.uniform(0.5, 1.2), half * 0.7, generation + 1)
                )
    return pieces


KINDS: tuple[tuple[Callable[[np.random.Generator], Outline], float], ...] = (
    (blob, 0.38), (rounded_box, 0.2), (polygon, 0.16), (leaf, 0.12), (curve, 0.14),
)  # fmt: skip


def random_outline(rng: np.random.Generator) -> Outline:
    """An outline of a random kind."""
    kinds, weights = zip(*KINDS)
    return kinds[rng.choice(len(kinds), p=weights)](rng)


def place(outline: Outline, centre: tuple[float, float], radius: float, angle: float) -> Outline:
    """Turns, enlarges and shifts an outline.

    Args:
        outline: `(n, 2)` of (x, y).
        centre: (x, y) in pixels.
        radius: In pixels.
        angle: In radians.
    """
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return outline @ turn * radius + np.asarray(centre)


def fill_together(
    outlines: Sequence[Outline], height: int, width: int
) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """Fills several outlines as one thing, as [`fill`] does one."""
    whole = np.zeros((height, width), dtype=bool)
    for outline in outlines:
        filled = fill(outline, height, width)
        if filled is not None:
            whole[filled[1]] |= filled[0]
    if not whole.any():
        return None
    rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    # Room for the softness of the border, as in `fill`.
    box = (
        slice(max(int(rows[0]) - 3, 0), min(int(rows[-1]) + 4, height)),
        slice(max(int(columns[0]) - 3, 0), min(int(columns[-1]) + 4, width)),
    )
    return whole[box], box


def fill(
    outline: Outline, height: int, width: int, hole: Outline | None = None
) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """Fills an outline within an image.

    Returns:
        The mask within its bounding box, bool, and the box as slices of rows and columns; None if it lies outside.
    """
    left, top = np.floor(outline.min(axis=0)).astype(int) - 3
    right, bottom = np.ceil(outline.max(axis=0)).astype(int) + 4
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if right - left < 2 or bottom - top < 2:
        return None
    canvas = Image.new("1", (right - left, bottom - top))
    draw = ImageDraw.Draw(canvas)
    draw.polygon((outline - (left, top)).ravel().tolist(), fill=1, outline=1)
    if hole is not None:
        draw.polygon((hole - (left, top)).ravel().tolist(), fill=0)
    mask = np.asarray(canvas)
    return (mask, (slice(top, bottom), slice(left, right))) if mask.any() else None
