"""Semantic maps of COCO's annotations, drawn when they are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from convlora.data.reading.images import read_image_size
from convlora.data.reading.mask_values import row_pieces
from convlora.data.reading.signatures import damaged
from convlora.data.sample import Sample, size_mismatch_message
from convlora.data.sources.drawing import outline_runs
from convlora.data.sources.run_length import run_length_mask
from convlora.errors import InputError, shown
from convlora.ordinary import ordinary


@dataclass(frozen=True)
class CocoMask:
    """The semantic map of an image with instance annotations; small objects lie above large ones.

    Args:
        path: The JSON file.
        file: The image's file.
        image: The image's entry.
        segments: Its annotations: polygons or run lengths.
        index: Class index by category id.
        unseen: Which annotations draw no pixel, or have a part without area, as far as `load` has drawn them; known
            only afterwards.
    """

    path: Path
    file: Path
    image: dict[str, Any]
    segments: tuple[dict[str, Any], ...]
    index: dict[int, int]
    unseen: dict[int, str] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.path} (annotations of {self.image['file_name']})"

    def load(self) -> Image.Image:
        """Draws the map.

        Raises:
            InputError: An annotation cannot be drawn, or the stated size is not that of the image.
        """
        height, width = self._size()
        _refuse_other_size(self, self.file, (height, width))
        encoded = []
        for place, segment in enumerate(self.segments):
            if segment["category_id"] not in self.index:
                raise InputError(f"{self} names the category {segment['category_id']}, which is not listed.")
            runs = self._encoded(place, segment, height, width)
            if not int(coco_mask.area(runs)):
                self.unseen[place] = shown(segment.get("id", "without id"))
            encoded.append((runs, self.index[segment["category_id"]]))
        deep = max(self.index.values()) > 255
        classes = np.zeros((height, width), dtype=np.uint16 if deep else np.uint8)
        # One mask at a time: a map of a thousand objects would take a thousand times its memory.
        for runs, kind in sorted(encoded, key=lambda entry: -int(coco_mask.area(entry[0]))):
            classes[coco_mask.decode(runs).astype(bool)] = kind
        return Image.fromarray(classes)

    def _size(self) -> tuple[int, int]:
        stated = self.image.get("height"), self.image.get("width")
        height, width = read_image_size(self.file) if None in stated else map(_pixels, stated)
        if not (height and width):
            raise InputError(f"{self} has no height and width in whole pixels. Export it with image sizes.")
        if height * width > (Image.MAX_IMAGE_PIXELS or 1 << 27):
            raise InputError(f"{self} states {width}x{height} pixels, which is too large. Cut the image into tiles.")
        return height, width

    def _encoded(self, place: int, segment: dict[str, Any], height: int, width: int) -> Any:
        """The run lengths of one annotation, as pycocotools takes them."""
        shape = segment.get("segmentation")
        try:
            if isinstance(shape, dict):
                return coco_mask.encode(np.asfortranarray(run_length_mask(shape, height, width), dtype=np.uint8))
            runs, lines = outline_runs(shape or (), height, width)
            if lines:
                self.unseen[place] = f"{shown(segment.get('id', 'without id'))} in part"
            return runs
        except (ValueError, TypeError, KeyError) as error:
            name = segment.get("id", "without id")
            raise InputError(f"{self}: annotation {name} cannot be drawn ({error}). Correct or remove it.") from error


@dataclass(frozen=True)
class PanopticMask:
    """The semantic map of an image with a panoptic PNG file.

    Args:
        path: The JSON file.
        file: The image's file.
        png: The PNG file; R + 256 G + 65536 B is the number of the segment.
        kinds: Class index by number of the segment.
        nothing: Label of pixels of no segment.
        deep: Whether class indices need 16 bits.
    """

    path: Path
    file: Path
    png: Path
    kinds: dict[int, int]
    nothing: int
    deep: bool

    def __str__(self) -> str:
        return str(self.png)

    def load(self) -> Image.Image:
        """Draws the map.

        Raises:
            InputError: The PNG file cannot be read, is of another size than the image, or holds a segment that the JSON
                file does not list.
        """
        try:
            with Image.open(ordinary(self.png), formats=("PNG",)) as opened:
                _refuse_other_size(self, self.file, (opened.height, opened.width))
                colours = np.asarray(opened.convert("RGB"))
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(damaged(str(self.png))) from error
        kinds = np.empty(colours.shape[:2], np.uint16 if self.deep else np.uint8)
        for rows in row_pieces(colours):  # all at once would take many times the map
            numbers, place = np.unique(colours[rows] @ np.array([1, 256, 65536], np.int32), return_inverse=True)
            unknown = [int(number) for number in numbers if number and number not in self.kinds]
            if unknown:
                raise InputError(f"{self.png} holds the segment {unknown[0]}, which {self.path} does not list.")
            known = np.array([self.kinds.get(int(number), self.nothing) for number in numbers], kinds.dtype)
            kinds[rows] = known[place].reshape(kinds[rows].shape)
        return Image.fromarray(kinds)


def _refuse_other_size(mask: CocoMask | PanopticMask, file: Path, stated: tuple[int, int]) -> None:
    """Raises if a mask cannot fit its image, before it is drawn: a short file may state a size of gigabytes."""
    try:
        size = read_image_size(file)
    except InputError:  # said when the image is read
        return
    # One that is turned takes no more memory, and the header may not tell all about the image's orientation.
    if stated not in (size, size[::-1]):
        raise InputError(size_mismatch_message(Sample(file, mask, ""), size, stated))


def _pixels(side: Any) -> int:
    """A length in whole pixels, which may be written as 640.0; 0 for anything else."""
    is_whole = type(side) is int or (type(side) is float and side.is_integer())
    return int(side) if is_whole and side > 0 else 0
