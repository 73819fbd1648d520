"""Pictures of images with their classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.pictures.legend import with_legend
from convlora.pictures.palette import class_colours, overlay
from convlora.pictures.png import write_png
from convlora.storage import replacing_file


def picture(image: Image.Image, semantic_map: np.ndarray, classes: ClassTable) -> Image.Image:
    """The image with its classes tinted; of several classes those that occur are named below it.

    Args:
        image: RGB.
        semantic_map: `(H, W)` of the image's size; what has the ignore value stays as it is and is not counted.
        classes: The classes.
    """
    colours = class_colours(classes)
    known = semantic_map != classes.ignore_index
    drawn = overlay(image, np.where(known, semantic_map, 0), colours, classes.background, known=known)
    if classes.num_classes == 2:
        return drawn
    counts = np.bincount(semantic_map[known], minlength=classes.num_classes)
    entries = [
        (colours[index], f"{classes.names[index]} {100 * counts[index] / counts.sum():.1f}%")
        for index in np.flatnonzero(counts)
        if index != classes.background
    ]
    return with_legend(drawn, entries)


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG file whole or not at all, with a note of what made it."""
    with replacing_file(path) as temporary, temporary.open("wb") as stream:
        write_png(image, stream)
