"""Colours of classes, and pictures made with them."""

from __future__ import annotations

import numpy as np
from PIL import Image

# Okabe and Ito's colours, which people with colour-blindness can tell apart; the background is black.
_COLOURS = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def class_colour(index: int) -> tuple[int, int, int]:
    """RGB colour of a class; the colours repeat after the eighth class, without the background's."""
    return _COLOURS[index] if index < len(_COLOURS) else _COLOURS[1 + (index - 1) % (len(_COLOURS) - 1)]


def indexed_image(semantic_map: np.ndarray) -> Image.Image:
    """A palette image whose pixel values are the classes.

    Args:
        semantic_map: `(H, W)` of classes below 256.
    """
    image = Image.fromarray(semantic_map.astype(np.uint8), mode=None).convert("L")
    indexed = Image.frombytes("P", image.size, image.tobytes())
    indexed.putpalette([channel for index in range(256) for channel in class_colour(index)])
    return indexed


def overlay(image: Image.Image, semantic_map: np.ndarray, opacity: float = 0.45) -> Image.Image:
    """The image with each class but the background tinted in its colour and outlined.

    Args:
        image: RGB.
        semantic_map: `(H, W)` of the image's size.
        opacity: Of the tint, 0 to 1.
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32).copy()
    colours = np.array([class_colour(index) for index in range(256)], dtype=np.float32)[semantic_map]
    inside = semantic_map > 0
    pixels[inside] = (1 - opacity) * pixels[inside] + opacity * colours[inside]
    edge = outline(semantic_map, width=max(1, round(min(semantic_map.shape) / 400)))
    pixels[edge] = colours[edge]
    return Image.fromarray(pixels.round().astype(np.uint8))


def outline(semantic_map: np.ndarray, width: int = 1) -> np.ndarray:
    """Pixels of classes but the background that have a pixel of another class within `width` pixels, `(H, W)` bool."""
    edge = np.zeros(semantic_map.shape, dtype=bool)
    for shift in range(1, width + 1):
        for axis in (0, 1):
            differs = np.zeros_like(edge)
            ahead = np.moveaxis(semantic_map, axis, 0)
            moved = np.moveaxis(differs, axis, 0)
            changes = ahead[shift:] != ahead[:-shift]
            moved[shift:] |= changes
            moved[:-shift] |= changes
            edge |= differs
    return edge & (semantic_map > 0)
