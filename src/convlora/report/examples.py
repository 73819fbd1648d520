"""The images that a report shows: the worst ones, and typical ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import read_sample
from convlora.data.reading.bands import picture_of
from convlora.data.sample import Sample
from convlora.errors import InputError
from convlora.inference.outputs import own_map
from convlora.inference.segmenter import Segmenter
from convlora.pictures.palette import class_colours, overlay
from convlora.report.outcomes import IGNORED, outcome_picture, outcomes
from convlora.report.pages import embedded

MOST = 12  # of each kind
_LARGEST_SIDE = 2048  # pixels at which a picture is made before it is shrunk to the size of the page
PANELS = ("image", "truth", "prediction", "right or wrong")


class Example(NamedTuple):
    """One image on the page.

    Attributes:
        name: Name of the sample.
        score: Its IoU.
        panels: Addresses that hold the pictures, in the order of [`PANELS`].
        seen: Classes that are there or were found.
        ignored: Whether it has pixels that are not scored.
    """

    name: str
    score: float
    panels: list[str]
    seen: frozenset[int]
    ignored: bool


class Chosen(NamedTuple):
    """Names and scores of the images to show.

    Attributes:
        worst: Lowest first.
        typical: Around the median.
    """

    worst: list[tuple[str, float]]
    typical: list[tuple[str, float]]


def choose(images: Sequence[Mapping[str, Any]], most: int = MOST) -> Chosen:
    """Chooses the worst images and those around the median.

    Args:
        images: The lines of `images.jsonl`.
        most: Most images of each kind; with few images each kind gets half.
    """
    scored = sorted(((str(one["image"]), image_score(one)) for one in images), key=lambda pair: (pair[1], pair[0]))
    worst = scored[: min(most, math.ceil(len(scored) / 2))]
    middle = (len(scored) - 1) / 2
    rest = sorted(range(len(worst), len(scored)), key=lambda place: abs(place - middle))[:most]
    return Chosen(worst, [scored[place] for place in sorted(rest)])


def image_score(line: Mapping[str, Any]) -> float:
    """IoU of one image: of the foreground, or the mean over the classes that are there or were found."""
    if "iou" in line:
        return float(line["iou"])
    right, true, predicted = (np.array(line[name], dtype=float) for name in ("right", "true", "predicted"))
    either = true + predicted - right
    return float((right[either > 0] / either[either > 0]).mean()) if (either > 0).any() else 1.0


def make_examples(
    chosen: Chosen, segmenter: Callable[[str], Segmenter], samples: Mapping[str, Sample], tell: Callable[[str], None]
) -> tuple[list[Example], list[Example]]:
    """Segments the chosen images and draws them.

    Args:
        chosen: What to show.
        segmenter: Gives the model for an image by its name.
        samples: The samples of the split by name.
        tell: Receives a sentence for each image that cannot be shown.

    Returns:
        The worst and the typical ones.
    """
    groups: list[list[Example]] = []
    for group in chosen:
        examples = []
        for name, score in group:
            try:
                if name not in samples:
                    raise InputError("It is no longer part of the data.")
                examples.append(_example(name, score, segmenter(name), samples[name]))
            except InputError as error:
                tell(f"{name} cannot be shown. {error}")
        groups.append(examples)
    return groups[0], groups[1]


def _example(name: str, score: float, segmenter: Segmenter, sample: Sample) -> Example:
    classes = segmenter.classes
    size, prediction = _predicted(segmenter, sample)
    shown, labels = read_sample(sample, classes, segmenter.intensity, size)
    image, truth = picture_of(shown).resize(size[::-1], Image.Resampling.BOX), _shrunk(labels, size)
    codes = outcomes(truth, prediction, classes)
    pictures = [image, _tinted(image, truth, classes), _tinted(image, prediction, classes)]
    pictures.append(outcome_picture(image, codes))
    found = {int(one) for one in np.union1d(truth, prediction) if 0 <= one < classes.num_classes}
    return Example(name, score, [embedded(one) for one in pictures], frozenset(found), bool((codes == IGNORED).any()))


def _predicted(segmenter: Segmenter, sample: Sample) -> tuple[tuple[int, int], np.ndarray]:
    """The size at which an image is shown, and its classes there."""
    if segmenter.tiles is not None:
        found = segmenter.predict_maps([sample.image])[0]
        size = _shown_size((found.shape[0], found.shape[1]))
        return size, _shrunk(found, size)
    seen = segmenter.see(sample.image)
    size = _shown_size(seen.size)
    output, index = next(iter(segmenter.outputs([seen.pixels])))
    return size, own_map(output, index, size).cpu().numpy()


def _tinted(image: Image.Image, semantic_map: np.ndarray, classes: ClassTable) -> Image.Image:
    known = semantic_map != classes.ignore_index
    return overlay(image, np.where(known, semantic_map, 0), class_colours(classes), classes.background, known=known)


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _LARGEST_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shrunk(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels at another size: of each pixel there the one in its middle."""
    if labels.shape == size:
        return labels
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, labels.shape))
    return labels[rows][:, columns]
