"""A page of images with their masks, to see at a glance whether a conversion went right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.images import read_for_size, read_mask
from convlora.data.sample import Sample
from convlora.errors import InputError
from convlora.pictures.palette import class_colours, overlay
from convlora.report.pages import embedded, render

PAGE = "overlays.html"
MOST = 20
_SIDE = 640  # pixels at which overlays are drawn


class Shown(NamedTuple):
    """One image on the page."""

    name: str
    overlay: str
    image: str
    classes: str


def write_overlays(
    folder: Path, samples: Mapping[str, Sequence[Sample]], classes: ClassTable, sentences: Sequence[str]
) -> Path:
    """Writes the page: some twenty images, evenly spread over the splits, beside their masks as tints.

    Args:
        folder: The data folder.
        samples: What it holds; masks are class indices.
        classes: The classes.
        sentences: What is said above the pictures.
    """
    every = [(split, sample) for split, some in samples.items() for sample in some]
    steps = np.linspace(0, len(every) - 1, min(MOST, len(every))).round().astype(int)
    shown, seen = [], set()
    for split, sample in (every[step] for step in steps.tolist()):
        try:
            one, found = _shown(split, sample, classes)
        except InputError:  # an image whose values have no known range
            continue
        shown.append(one)
        seen |= found
    colours = class_colours(classes)
    legend = [(_css(colours[index]), classes.names[index]) for index in sorted(seen) if index != classes.background]
    content = {"title": "Images and their masks", "sentences": sentences, "legend": legend, "shown": shown}
    path = folder / PAGE
    path.write_text(render("overlays.html", Path(__file__).parent / "templates", **content), encoding="utf-8")
    return path


def _shown(split: str, sample: Sample, classes: ClassTable) -> tuple[Shown, set[int]]:
    assert sample.mask is not None, "each image was written with its mask"  # noqa: S101
    labels = read_mask(sample.mask).astype(np.int64)
    height, width = labels.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    image, _ = read_for_size(sample.image, size)
    image = image.resize(size[::-1], Image.Resampling.BOX)
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, labels.shape))
    small = labels[rows][:, columns]
    known = small != classes.ignore_index
    found = {int(index) for index in np.unique(labels) if index != classes.ignore_index}
    tinted = overlay(image, np.where(known, small, 0), class_colours(classes), classes.background, known=known)
    things = [classes.names[index] for index in sorted(found) if index != classes.background]
    name = f"{split}: {sample.name}"
    return Shown(name, embedded(tinted, _SIDE // 2), embedded(image, _SIDE // 2), ", ".join(things)), found


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
