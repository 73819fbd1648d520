"""What is made of a model's answer: files and tables."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from convlora.data.reading.bands import picture_of
from convlora.data.reading.read import read_known, read_picture, read_seen
from convlora.errors import InputError
from convlora.inference.polygons import Region, TooManyCornersError, regions
from convlora.inference.segmenter import Segmenter
from convlora.pictures.overlay import picture
from convlora.pictures.palette import class_colours, indexed_image
from convlora.pictures.png import write_png
from convlora.serve.engine import Answer
from convlora.serve.images import Upload
from convlora.serve.limits import Problem

MOST_CORNERS = 200_000
_PREVIEW = 2048  # pixels of the longer side


class Result(NamedTuple):
    """An image and its classes, as `convlora predict` would write them.

    Attributes:
        upload: The image.
        segmenter: The model that segmented it, for its classes.
        semantic_map: `(H, W)`; `Segmenter.value_without_class` where there are no data.
        known: Which pixels hold data; None: all.
        counts: Pixels of each class, those without data aside.
        levels: See `Answer.levels`; 0 where there are no data.
    """

    upload: Upload
    segmenter: Segmenter
    semantic_map: np.ndarray
    known: np.ndarray | None
    counts: np.ndarray
    levels: np.ndarray | None


def result_of(upload: Upload, segmenter: Segmenter, answer: Answer) -> Result:
    """Takes pixels without data out of an answer, as `convlora predict` does.

    Raises:
        Problem: If the image cannot be decoded.
    """
    no_data, (semantic_map, levels) = segmenter.value_without_class, answer
    try:
        known = read_known(upload, segmenter.intensity) if no_data is not None else None
    except InputError as error:
        raise Problem(422, str(error)) from error
    kept = semantic_map.ravel()
    if known is not None and no_data is not None:
        kept = semantic_map[known]
        semantic_map = np.where(known, semantic_map, segmenter.map_type(no_data))
        levels = None if levels is None else np.where(known, levels, np.uint8(0))
    counts = np.bincount(kept, minlength=segmenter.classes.num_classes)
    return Result(upload, segmenter, semantic_map, known, counts, levels)


def mask_png(result: Result) -> bytes:
    """The file that `convlora predict` writes, byte for byte."""
    return _png(indexed_image(result.semantic_map, class_colours(result.segmenter.classes)))


def overlay_png(result: Result) -> bytes:
    """The picture that `convlora predict --overlay` writes, byte for byte.

    Raises:
        Problem: If the image cannot be decoded.
    """
    segmenter, semantic_map = result.segmenter, result.semantic_map
    try:
        whole = read_picture(result.upload, segmenter.intensity)
    except InputError as error:
        raise Problem(422, str(error)) from error
    if result.known is not None:
        semantic_map = np.where(result.known, semantic_map, np.uint16(segmenter.classes.ignore_index))
    return _png(picture(whole, semantic_map, segmenter.classes))


def probability_png(result: Result) -> bytes:
    """A grey image of the foreground's probability in 256 levels, see [`Answer.levels`].

    Raises:
        Problem: If the run does not tell the foreground by one probability.
    """
    if result.levels is None:
        raise Problem(422, "This run has no probability of a foreground: it is not binary. Ask for png or json.")
    return _png(Image.fromarray(result.levels))


def layers_png(result: Result) -> bytes:
    """An RGB image that a page can compute with.

    Red and green are the low and the high byte of the class, blue is the level of the probability, if there is one.
    """
    layers = np.zeros((*result.semantic_map.shape, 3), np.uint8)
    layers[..., 0] = result.semantic_map & 0xFF
    layers[..., 1] = result.semantic_map >> 8 if result.semantic_map.dtype.itemsize > 1 else 0
    if result.levels is not None:
        layers[..., 2] = result.levels
    stream = io.BytesIO()
    Image.fromarray(layers).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def preview_jpeg(result: Result) -> bytes:
    """The image as a browser can show it: upright, 8 bits, and not larger than a screen.

    Raises:
        Problem: If the image cannot be decoded.
    """
    try:
        seen, _ = read_seen(result.upload, (_PREVIEW // 2, _PREVIEW // 2), result.segmenter.intensity)
    except InputError as error:
        raise Problem(422, str(error)) from error
    image = picture_of(seen)
    image.thumbnail((_PREVIEW, _PREVIEW))
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=90)
    return stream.getvalue()


PICTURES = {"mask": mask_png, "layers": layers_png, "preview": preview_jpeg}


def as_json(result: Result, run: str, with_polygons: bool, pictures: list[str]) -> dict[str, Any]:
    """What the interface describes as a segmentation.

    Raises:
        Problem: If the image cannot be decoded.
    """
    classes, (height, width) = result.segmenter.classes, result.semantic_map.shape
    total = max(1, int(result.counts.sum()))
    answer: dict[str, Any] = {
        "run": run,
        "width": width,
        "height": height,
        "no_data_pixels": height * width - int(result.counts.sum()),
        "classes": [
            {"index": index, "name": name, "pixels": int(pixels), "share": float(pixels / total)}
            for index, (name, pixels) in enumerate(zip(classes.names, result.counts))
        ],
        "polygons": None,
        "polygons_note": None,
    }
    if with_polygons:
        try:
            found = regions(result.semantic_map, classes.num_classes, classes.background, MOST_CORNERS)
            answer["polygons"] = [_polygon(region, classes.names) for region in found]
        except TooManyCornersError:
            answer["polygons_note"] = (
                f"The outlines have more than {MOST_CORNERS:,} corners together, too many to list. Ask for the mask."
            )
    if pictures:
        answer["pictures"] = {name: base64.b64encode(PICTURES[name](result)).decode() for name in pictures}
    return answer


def _polygon(region: Region, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "class": region.class_index,
        "name": names[region.class_index],
        "pixels": region.pixels,
        "coordinates": region.rings,
    }


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    write_png(image, stream)
    return stream.getvalue()
