"""Colours of classes, and pictures made with them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from itertools import count

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.colours import Colour

BLACK: Colour = (0, 0, 0)
_ROWS = 32  # of a picture drawn at a time, which fit into the cache of a core

# Okabe and Ito's colours, which people with colour-blindness can tell apart.
_FIRST = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def class_colours(classes: ClassTable) -> tuple[Colour, ...]:
    """RGB colour of each class: those of classes.json, or black for the background and colours apart for the others."""
    if classes.colors is not None:
        return classes.colors
    return default_colours(classes.num_classes, classes.background)


def hexadecimal(colour: Colour) -> str:
    """A colour as web pages and annotation tools write it, `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def default_colours(number: int, background: int | None = 0) -> tuple[Colour, ...]:
    """Colours that are all different.

    The first seven can be told apart with any colour vision; then these lighter, then darker, so that the next fourteen
    still differ in brightness; what comes after is merely different.

    Args:
        number: How many.
        background: The class that is black, if one is.
    """
    found: dict[Colour, None] = {}
    shades = [*_FIRST, *(_mixed(one, 255, 0.55) for one in _FIRST), *(_mixed(one, 0, 0.45) for one in _FIRST)]
    for shade in shades:
        found[shade] = None
    for index in count():
        if len(found) >= number:
            break
        hue, value = index * 0.618034 % 1, (0.95, 0.7, 0.5)[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.5)[index % 2], value)
        found[round(255 * red), round(255 * green), round(255 * blue)] = None
    colours = list(found)
    if background is not None:
        colours.insert(background, BLACK)
    return tuple(colours[:number])


def _mixed(colour: Colour, other: int, share: float) -> Colour:
    red, green, blue = (round((1 - share) * part + share * other) for part in colour)
    return red, green, blue


def indexed_image(semantic_map: np.ndarray, colours: Sequence[Colour], plain: bool = False) -> Image.Image:
    """An image whose pixel values are the classes: a palette image, or 16-bit grey above 256 classes.

    Args:
        semantic_map: `(H, W)` of classes.
        colours: Colour of each class.
        plain: Whether it is grey in any case: many programs make colours of a palette.
    """
    if len(colours) > 256:
        return Image.fromarray(semantic_map.astype(np.uint16))
    values = np.ascontiguousarray(semantic_map, dtype=np.uint8)
    if plain:
        return Image.fromarray(values)
    indexed = Image.frombytes("P", values.shape[::-1], values.data)
    rest = [(255, 255, 255)] * (256 - len(colours))
    indexed.putpalette([channel for colour in [*colours, *rest] for channel in colour])
    return indexed


def overlay(
    image: Image.Image,
    semantic_map: np.ndarray,
    colours: Sequence[Colour],
    background: int | None = 0,
    opacity: float = 0.45,
    known: np.ndarray | None = None,
) -> Image.Image:
    """The image with each class but the background tinted in its colour and outlined.

    Args:
        image: RGB.
        semantic_map: `(H, W)` of the image's size.
        colours: Colour of each class.
        background: The class that is left as it is, if there is one.
        opacity: Opacity of the tint, 0 to 1.
        known: Pixels to draw, `(H, W)` bool; default: all.
    """
    pixels = np.array(image.convert("RGB"))
    palette, values = np.asarray(colours, dtype=np.float32), np.arange(256, dtype=np.float32)[:, None]
    untouched = len(palette)  # stands for a class that changes nothing
    # What each of the 256 values of a channel becomes under each class, so that nothing is computed for each pixel.
    tinted = np.empty((len(palette) + 1, 256, 3), np.uint8)
    tinted[:untouched] = ((1 - opacity) * values + opacity * palette[:, None]).round()
    tinted[untouched] = values
    channels = [np.ascontiguousarray(tinted[..., channel]).ravel() for channel in range(3)]
    opaque = palette.astype(np.uint8)
    edge = outline(semantic_map, width=max(1, round(min(semantic_map.shape) / 400)))
    for top in range(0, len(pixels), _ROWS):
        rows = slice(top, top + _ROWS)
        band, classes = pixels[rows], semantic_map[rows]
        inside = np.ones(classes.shape, dtype=bool) if known is None else known[rows].copy()
        if background is not None:
            inside &= classes != background
        places = np.where(inside, classes, untouched).astype(np.intp) * 256
        for channel, table in enumerate(channels):
            band[..., channel] = table.take(places + band[..., channel], mode="clip")  # none is outside
        rim = edge[rows] & inside
        band[rim] = opaque[classes[rim]]
    return Image.fromarray(pixels)


def outline(semantic_map: np.ndarray, width: int = 1) -> np.ndarray:
    """Pixels that have a pixel of another class within `width` pixels, `(H, W)` bool."""
    edge = np.zeros(semantic_map.shape, dtype=bool)
    _mark(edge, semantic_map, width)
    _mark(edge.T, semantic_map.T, width)
    return edge


def _mark(edge: np.ndarray, semantic_map: np.ndarray, width: int) -> None:
    """Marks what has another class within `width` rows: where the class changes on the way there."""
    before, after = np.zeros_like(edge), np.zeros_like(edge)
    before[:-1] = semantic_map[1:] != semantic_map[:-1]
    after[1:] = before[:-1]
    reach = 1
    while reach < width:  # in steps that double
        step = min(reach, width - reach)
        before[:-step] |= before[step:]
        after[step:] |= after[:-step]
        reach += step
    edge |= before
    edge |= after
