"""Outlines: closed polygons around the origin, about one unit in radius, as `(n, 2)` arrays of (x, y)."""

from __future__ import annotations

from collections.abc import Callable

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
