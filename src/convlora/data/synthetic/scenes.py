"""Scenes of things in front of things, with the exact visible part of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from convlora.data.synthetic import shapes, textures


@dataclass(frozen=True)
class SceneStyle:
    """What scenes are made of.

    Attributes:
        size: (height, width) in pixels.
        things: Fewest and most things; groups of like things count as one.
        radius: Smallest and largest radius of a thing, as a share of the shorter side.
        groups: Share of the things that come as groups of like ones, scattered, in rows or touching.
        distortion: Strength of blur, noise, uneven light and loss of colour, 0 to 1.
        thin: Share of the things that are networks of thin branching lines, one to five pixels wide in 256.
        small: Share of the things that are scatterings of small ones, two to a dozen pixels wide in 256.
    """

    size: tuple[int, int] = (256, 256)
    things: tuple[int, int] = (3, 14)
    radius: tuple[float, float] = (0.04, 0.35)
    groups: float = 0.25
    distortion: float = 1.0
    thin: float = 0.0
    small: float = 0.0


@dataclass(frozen=True)
class Scene:
    """An image and its things.

    Attributes:
        image: `(H, W, 3)`, uint8.
        instances: Number of the thing seen at each pixel, `(H, W)`, int32; 0 is the ground.
    """

    image: np.ndarray
    instances: np.ndarray


def draw_scene(rng: np.random.Generator, style: SceneStyle = SceneStyle()) -> Scene:
    """Draws a scene: ground, then things from back to front, each hiding what is behind it.

    Args:
        rng: Decides everything.
        style: What it is made of.

    Source: The dead leaves model; Lee, Mumford and Huang, "Occlusion models for natural images", 2001; Baradad et
        al., "Learning to see by looking at noise", NeurIPS 2021.
    """
    height, width = style.size
    canvas = textures.paint(rng, height, width)
    instances = np.zeros((height, width), dtype=np.int32)
    softness = rng.uniform(0.0, 0.9)
    number = 0
    for _ in range(int(rng.integers(style.things[0], style.things[1] + 1))):
        for filled, look in _things(rng, style):
            if filled is None:
                continue
            number += 1
            mask, box = filled
            _draw(canvas[box], mask, look, softness, rng)
            instances[box][mask] = number
    return Scene(_photograph(rng, canvas, style.distortion), _renumber(instances))


@dataclass(frozen=True)
class _Look:
    colour: np.ndarray
    varies: float
    shading: float
    rim: float


_Filled = tuple[np.ndarray, tuple[slice, slice]] | None  # as `shapes.fill` returns it


def _things(rng: np.random.Generator, style: SceneStyle) -> Iterator[tuple[_Filled, _Look]]:
    """One thing, or a group of like things."""
    kind = rng.random() if style.thin or style.small else 1.0
    if kind < style.thin:
        return _thin_things(rng, style)
    if kind < style.thin + style.small:
        return _small_things(rng, style)
    return _ordinary_things(rng, style)


def _ordinary_things(rng: np.random.Generator, style: SceneStyle) -> Iterator[tuple[_Filled, _Look]]:
    height, width = style.size
    low, high = np.log(style.radius[0]), np.log(style.radius[1])
    radius = float(np.exp(rng.uniform(low, high))) * min(height, width)
    outline = shapes.random_outline(rng)
    look = _look(rng)
    centre = (rng.uniform(0, width), rng.uniform(0, height))
    angle = rng.uniform(0, 2 * np.pi)
    if rng.random() > style.groups:
        hole = None
        if rng.random() < 0.08:
            hole = shapes.place(outline, centre, radius * rng.uniform(0.35, 0.65), angle)
        yield shapes.fill(shapes.place(outline, centre, radius, angle), height, width, hole), look
        return
    radius = min(radius, 0.11 * min(height, width))
    count = int(rng.integers(3, 9))
    vary = rng.random() < 0.5
    placed = [
        shapes.place(
            shapes.blob(rng) if vary else outline,
            place,
            radius * rng.uniform(0.75, 1.2),
            angle + (rng.uniform(0, 6) if vary else rng.normal(0, 0.2)),
        )
        for place in _group(rng, count, centre, radius, angle)
    ]
    for one in placed:
        yield shapes.fill(one, height, width), look


def _thin_things(rng: np.random.Generator, style: SceneStyle) -> Iterator[tuple[_Filled, _Look]]:
    """A network of lines, which is one thing however often it branches."""
    height, width = style.size
    scale = min(height, width) / 256
    start = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    yield shapes.fill_together(shapes.network(rng, start, scale, (0.5, 2.6)), height, width), _look(rng)


def _small_things(rng: np.random.Generator, style: SceneStyle) -> Iterator[tuple[_Filled, _Look]]:
    """Many small things of one look, in a part of the image."""
    height, width = style.size
    scale = min(height, width) / 256
    look = _look(rng)
    outline = shapes.random_outline(rng)
    radius = float(np.exp(rng.uniform(np.log(1.0), np.log(6.0)))) * scale
    centre, spread = rng.uniform(0, (width, height)), rng.uniform(0.08, 0.5) * np.array([width, height])
    for _ in range(int(rng.integers(4, 30))):
        place = centre + rng.normal(0, 1, 2) * spread
        one = shapes.place(outline, (place[0], place[1]), radius * rng.uniform(0.6, 1.4), rng.uniform(0, 6))
        yield shapes.fill(one, height, width), look


def _look(rng: np.random.Generator) -> _Look:
    return _Look(textures.colour(rng), rng.uniform(0, 0.06), rng.uniform(0, 0.35), rng.normal(0, 0.12))


def _group(
    rng: np.random.Generator, count: int, centre: tuple[float, float], radius: float, angle: float
) -> list[tuple[float, float]]:
    kind = rng.integers(3)
    if kind == 0:  # a row
        step = radius * rng.uniform(1.7, 3.0)
        return [(centre[0] + i * step * np.cos(angle), centre[1] + i * step * np.sin(angle)) for i in range(count)]
    places = [centre]
    for _ in range(count - 1):
        x, y = places[rng.integers(len(places))]
        direction = rng.uniform(0, 2 * np.pi)
        distance = radius * (rng.uniform(1.5, 1.9) if kind == 1 else rng.uniform(2.2, 4.5))  # touching, or scattered
        places.append((x + distance * np.cos(direction), y + distance * np.sin(direction)))
    return places


def _draw(piece: np.ndarray, mask: np.ndarray, look: _Look, softness: float, rng: np.random.Generator) -> None:
    """Lays a textured thing over a piece of the canvas, in place."""
    height, width = mask.shape
    surface = textures.paint(rng, height, width, np.clip(look.colour + rng.normal(0, look.varies, 3), 0, 1))
    if look.shading > 0.05:
        surface *= textures.slope(rng, height, width, look.shading)
    if abs(look.rim) > 0.06 and min(height, width) > 12:
        inside = textures.smooth(mask, 0.06 * min(height, width) + 0.5)
        surface += ((1 - inside) * np.float32(look.rim))[..., None]
    surface -= piece
    surface *= textures.smooth(mask, softness)[..., None]
    piece += surface


def _photograph(rng: np.random.Generator, canvas: np.ndarray, strength: float) -> np.ndarray:
    """Light, lens and sensor: from a canvas of about 0..1 to a picture in uint8."""
    height, width = canvas.shape[:2]
    picture = np.multiply(canvas, textures.slope(rng, height, width, strength * rng.uniform(0, 0.2)), out=canvas)
    if rng.random() < 0.3 * strength:  # soft shadows
        shadow = textures.cut(rng, height // 4, width // 4)
        shade = Image.fromarray(np.ascontiguousarray(shadow)).resize((width, height), Image.Resampling.BICUBIC)
        picture *= 1 - 0.08 * np.asarray(shade)[..., None]
    if rng.random() < 0.25 * strength:
        picture = np.repeat(picture.mean(axis=-1, keepdims=True), 3, axis=-1)
        if rng.random() < 0.4:
            picture = picture * (0.5 + rng.uniform(0, 0.6, 3)).astype(np.float32)
    contrast = rng.uniform(1 - 0.35 * strength, 1 + 0.15 * strength)
    picture *= np.float32(255 * contrast)
    picture += np.float32(255 * (0.5 - 0.5 * contrast))
    np.clip(picture, 0, 255, out=picture)
    image = Image.fromarray(np.ascontiguousarray(picture.astype(np.uint8)))
    if rng.random() < 0.5 * strength:
        image = image.filter(ImageFilter.BoxBlur(1.5 * rng.uniform(0.2, 1.4)))
    noise = strength * rng.uniform(0, 14) * rng.random()
    if noise <= 0.5:
        return np.asarray(image)
    picture = np.asarray(image, dtype=np.float32)
    grain = textures.bank()[0]  # the whitest of them
    top, left = rng.integers(0, grain.shape[0] - min(height, 512) + 1), rng.integers(0, 512 - min(width, 512) + 1)
    piece = np.take(
        np.take(grain, np.arange(top, top + height), 0, mode="wrap"), np.arange(left, left + width), 1, mode="wrap"
    )
    white = rng.standard_normal((height, width, 1), dtype=np.float32)
    white[..., 0] += np.float32(0.5) * piece
    white *= np.float32(noise)
    picture += white
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


def _renumber(instances: np.ndarray) -> np.ndarray:
    """Numbers what can be seen 1, 2, ..., from back to front."""
    seen = np.zeros(int(instances.max(initial=0)) + 1, dtype=bool)
    seen[instances] = True
    seen[0] = False
    numbers = np.where(seen, np.cumsum(seen), 0).astype(np.int32)
    renumbered: np.ndarray = numbers[instances]
    return renumbered
