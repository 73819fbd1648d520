"""Small semantic segmentation tasks of different domains, as ready data folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from convlora.data.synthetic import shapes, textures
from convlora.data.synthetic.cells import draw_cells

Picture = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """A kind of images and what is to be found in them.

    Attributes:
        classes: Names; the first is the background.
        draw: From (height, width) and a generator to the image `(H, W, 3)` and class indices `(H, W)`, both uint8.
    """

    classes: tuple[str, ...]
    draw: Callable[[tuple[int, int], np.random.Generator], Picture]


def write_task(
    name: str,
    folder: Path | str,
    *,
    num_train: int = 40,
    num_val: int = 10,
    num_test: int = 20,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> Path:
    """Writes a task as a data folder: `{train,val,test}/{images,masks}/` and `classes.json`.

    Args:
        name: One of [`TASKS`].
        folder: Where to write; it is made if need be, and files of the same names are replaced.
        num_train: Number of training samples.
        num_val: Number of validation samples.
        num_test: Number of test samples.
        size: (height, width) in pixels.
        seed: Decides everything that is random.

    Returns:
        The folder.
    """
    task, root = TASKS[name], Path(folder)
    binary = len(task.classes) == 2
    for number, (split, count) in enumerate((("train", num_train), ("val", num_val), ("test", num_test))):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            # One generator per sample, so that asking for more samples does not change the first ones.
            image, mask = task.draw(size, np.random.default_rng((seed, number, index)))
            Image.fromarray(image).save(root / split / "images" / f"{split}_{index:03d}.png")
            Image.fromarray(mask * 255 if binary else mask).save(root / split / "masks" / f"{split}_{index:03d}.png")
    (root / "classes.json").write_text(json.dumps({"classes": list(task.classes)}, indent=1) + "\n", encoding="utf-8")
    return root


def _cells(size: tuple[int, int], rng: np.random.Generator) -> Picture:
    image, mask = draw_cells(size, rng)
    return image, (mask > 0).astype(np.uint8)


def draw_cracks(size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Branching cracks in concrete, among stains, scratches and pores that are none."""
    height, width = size
    scale = min(size) / 256
    grey = rng.uniform(0.45, 0.75)
    surface = textures.paint(
        rng, height, width, np.array([grey, grey * rng.uniform(0.94, 1.0), grey * 0.93]), plain=True
    )
    surface += 0.03 * textures.cut(rng, height, width, plain=True)[..., None]
    surface += 0.025 * rng.standard_normal((height, width, 1), dtype=np.float32)
    for _ in range(rng.integers(2, 6)):  # stains: dark and wide
        _stain(surface, rng, shapes.blob(rng), scale * rng.uniform(12, 45), rng.uniform(-0.12, 0.08), 6 * scale)
    for _ in range(rng.integers(0, 30)):  # pores: dark, small and round
        _stain(surface, rng, shapes.blob(rng), scale * rng.uniform(1, 2.5), -0.25, 0.5)
    if rng.random() < 0.6:  # a seam: straight and bright
        _stain(surface, rng, shapes.rounded_box(rng) * (2.0, 0.02), 140 * scale, rng.uniform(0.06, 0.15), 0.6)
    mask = np.zeros(size, dtype=bool)
    for _ in range(rng.integers(1, 4)):
        start = np.array([rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height])
        for outline in shapes.network(rng, start, scale):
            filled = shapes.fill(outline, height, width)
            if filled is not None:
                mask[filled[1]] |= filled[0]
    depth = (
        textures.smooth(mask, 0.7)[..., None]
        * (0.75 + 0.25 * np.tanh(textures.cut(rng, height, width, plain=True)))[..., None]
    )
    surface = surface * (1 - depth * rng.uniform(0.35, 0.65))
    surface *= textures.slope(rng, height, width, rng.uniform(0, 0.25))
    return _finish(surface), mask.astype(np.uint8)


def draw_leaves(size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Leaves with brown lesions over soil and grass; the lesions are to be found, not stones, soil or dry leaves."""
    height, width = size
    scale = min(size) / 256
    canvas = textures.paint(rng, height, width, np.array([0.36, 0.29, 0.2]) * rng.uniform(0.6, 1.3), plain=True)
    for _ in range(rng.integers(5, 15)):
        grass = np.array([0.3, 0.42, 0.16]) * rng.uniform(0.6, 1.2)
        _thing(canvas, rng, shapes.leaf(rng) * (1, 0.25), scale * rng.uniform(30, 90), grass)
    for _ in range(rng.integers(0, 5)):
        _thing(canvas, rng, shapes.blob(rng), scale * rng.uniform(5, 16), np.array([0.5, 0.4, 0.28]))
    mask = np.zeros(size, dtype=bool)
    for _ in range(rng.integers(2, 7)):
        radius = scale * rng.uniform(40, 95)
        dry = rng.random() < 0.15
        green = np.array([0.5, 0.42, 0.22]) if dry else np.array([0.22, 0.47, 0.15]) * rng.uniform(0.75, 1.3)
        placed = _thing(canvas, rng, shapes.leaf(rng), radius, green, veins=True)
        if placed is None:
            continue
        inside, box = placed
        mask[box] &= ~inside
        if dry:
            continue
        rows, columns = np.nonzero(inside)
        for _ in range(rng.integers(0, 9)):
            at = rng.integers(len(rows))
            centre = (box[1].start + columns[at], box[0].start + rows[at])
            spot = shapes.place(shapes.blob(rng), centre, scale * rng.uniform(2.5, 13), rng.uniform(0, 6))
            filled = shapes.fill(spot, height, width)
            if filled is None:
                continue
            lesion = np.zeros(size, dtype=bool)
            lesion[filled[1]] = filled[0]
            lesion[box] &= inside
            outside = np.ones(size, dtype=bool)
            outside[box] = ~inside
            lesion &= ~outside
            _lesion(canvas, rng, lesion)
            mask |= lesion
    canvas *= textures.slope(rng, height, width, rng.uniform(0, 0.2))
    return _finish(canvas + 0.015 * rng.standard_normal(canvas.shape, dtype=np.float32)), mask.astype(np.uint8)


def _lesion(canvas: np.ndarray, rng: np.random.Generator, lesion: np.ndarray) -> None:
    """A brown spot with a yellow halo."""
    halo = textures.smooth(lesion, 3.0)[..., None] * 0.6
    canvas += halo * (np.array([0.62, 0.6, 0.2], dtype=np.float32) - canvas)
    core = textures.smooth(lesion, 0.8)[..., None]
    brown = np.array([0.42, 0.26, 0.13]) * rng.uniform(0.7, 1.25)
    canvas += core * (textures.paint(rng, lesion.shape[0], lesion.shape[1], brown, plain=True) - canvas)


def draw_town(size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """A town from above: fields, water, roads, trees and roofs."""
    height, width = size
    scale = min(size) / 256
    canvas = textures.paint(rng, height, width, np.array([0.44, 0.5, 0.3]) * rng.uniform(0.8, 1.2), plain=True)
    mask = np.zeros(size, dtype=np.uint8)

    def lay(
        outline: np.ndarray, radius: float, colour: np.ndarray, number: int, centre: np.ndarray, angle: float
    ) -> None:
        placed = _thing(canvas, rng, outline, radius, colour, centre=centre, angle=angle, shadow=number in (3, 4))
        if placed is not None:
            mask[placed[1]][placed[0]] = number

    def anywhere() -> np.ndarray:
        return rng.uniform(0, 1, 2) * (width, height)

    for _ in range(rng.integers(1, 4)):  # fields of other crops are background too
        _thing(canvas, rng, shapes.polygon(rng), scale * rng.uniform(40, 90), rng.uniform(0.25, 0.6, 3) * (1, 1, 0.6))
    if rng.random() < 0.7:
        water = np.array([0.16, 0.28, 0.36]) * rng.uniform(0.7, 1.4)
        lay(shapes.blob(rng), scale * rng.uniform(30, 80), water, 1, anywhere(), rng.uniform(0, 6))
    grid = rng.uniform(0, np.pi)
    grey = np.full(3, rng.uniform(0.4, 0.65))
    for number in range(rng.integers(1, 4)):
        band = shapes.rounded_box(rng)
        band = band / np.abs(band).max(axis=0) * (1.0, rng.uniform(0.012, 0.03))
        lay(band, 300 * scale, grey, 2, anywhere(), grid + (np.pi / 2) * (number % 2) + rng.normal(0, 0.05))
    for _ in range(rng.integers(6, 26)):
        green = np.array([0.16, 0.3, 0.13]) * rng.uniform(0.7, 1.4)
        lay(shapes.blob(rng), scale * rng.uniform(4, 13), green, 3, anywhere(), rng.uniform(0, 6))
    roofs = np.array([[0.62, 0.33, 0.25], [0.5, 0.5, 0.53], [0.72, 0.68, 0.62], [0.42, 0.3, 0.27]])
    for _ in range(rng.integers(4, 14)):
        box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (1, rng.uniform(0.45, 1.0))
        if rng.random() < 0.3:
            box = np.array([[-1, -0.9], [1, -0.9], [1, 0.1], [0.1, 0.1], [0.1, 0.9], [-1, 0.9]])
        roof = roofs[rng.integers(len(roofs))] * rng.uniform(0.8, 1.15)
        lay(box, scale * rng.uniform(7, 22), roof, 4, anywhere(), grid + rng.normal(0, 0.03))
    canvas += 0.015 * rng.standard_normal(canvas.shape, dtype=np.float32)
    return _finish(canvas), mask


def _thing(
    canvas: np.ndarray,
    rng: np.random.Generator,
    outline: np.ndarray,
    radius: float,
    colour: np.ndarray,
    *,
    centre: np.ndarray | None = None,
    angle: float | None = None,
    veins: bool = False,
    shadow: bool = False,
) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """Lays a textured outline over the canvas, in place; returns where, as [`shapes.fill`] does."""
    height, width = canvas.shape[:2]
    if centre is None:
        centre = rng.uniform(0, 1, 2) * (width, height)
    angle = rng.uniform(0, 2 * np.pi) if angle is None else angle
    placed = shapes.place(outline, (centre[0], centre[1]), radius, angle)
    if shadow:
        below = shapes.fill(placed + 0.2 * radius, height, width)
        if below is not None:
            canvas[below[1]] *= 1 - 0.4 * textures.smooth(below[0], 1.0)[..., None]
    filled = shapes.fill(placed, height, width)
    if filled is None:
        return None
    mask, box = filled
    rows, columns = mask.shape
    surface = textures.paint(rng, rows, columns, np.clip(colour + rng.normal(0, 0.015, 3), 0, 1), plain=True)
    surface *= textures.slope(rng, rows, columns, rng.uniform(0, 0.2))
    if veins:
        _veins(surface, box, centre, angle, radius)
    canvas[box] += textures.smooth(mask, 0.7)[..., None] * (surface - canvas[box])
    return filled


def _veins(surface: np.ndarray, box: tuple[slice, slice], centre: np.ndarray, angle: float, radius: float) -> None:
    """Brighter lines along the middle of a leaf and off it."""
    rows, columns = np.mgrid[box].astype(np.float32)
    x, y = (columns - centre[0]) / radius, (rows - centre[1]) / radius
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    middle = np.exp(-((across / 0.02) ** 2))
    side = np.exp(-((np.sin((along - np.abs(across)) * 16) / 0.18) ** 2)) * 0.35
    surface += (0.09 * np.maximum(middle, side))[..., None]


def _stain(
    surface: np.ndarray, rng: np.random.Generator, outline: np.ndarray, radius: float, by: float, softness: float
) -> None:
    height, width = surface.shape[:2]
    centre = (rng.uniform(0, width), rng.uniform(0, height))
    filled = shapes.fill(shapes.place(outline, centre, radius, rng.uniform(0, 6)), height, width)
    if filled is None:
        return
    whole = np.zeros((height, width), dtype=bool)
    whole[filled[1]] = filled[0]
    surface *= (1 + by * textures.smooth(whole, softness))[..., None]


def _finish(canvas: np.ndarray) -> np.ndarray:
    image = Image.fromarray((canvas.clip(0, 1) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))
    return np.array(image)


TASKS: dict[str, Task] = {
    "cells": Task(("background", "cell"), _cells),
    "cracks": Task(("background", "crack"), draw_cracks),
    "leaves": Task(("background", "lesion"), draw_leaves),
    "town": Task(("background", "water", "road", "tree", "roof"), draw_town),
}
