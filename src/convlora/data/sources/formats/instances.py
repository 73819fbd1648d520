"""Masks of numbered objects, 0 for what is none: Cellpose, StarDist, napari.

Source: `cellpose/io.py` (`NAME_masks.tif`, `NAME_cp_masks.png`); its `NAME_seg.npy` are pickles, which are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.problem import Problem
from convlora.data.reading.images import read_mask
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.formats.found import (
    ALL,
    Found,
    Reading,
    files_below,
    listed_images,
    named_samples,
    split_folders,
)
from convlora.data.sources.formats.pairs import find_pairs, places, suffix_of
from convlora.errors import InputError

SUFFIXES = ("_cp_masks", "_masks", "_instances", "_instance")
_FOLDERS = (("images", "masks"), ("images", "labels"), ("image", "label"), ("img", "masks"))


@dataclass(frozen=True)
class NumberedMask:
    """A mask of numbered objects as classes.

    Args:
        path: The file.
        border: Whether pixels of an object that touch another number are a class of their own.
    """

    path: ImageSource
    border: bool

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> Image.Image:
        """Draws 0 for the background, 1 for (the inside of) objects, 2 for their border.

        Raises:
            InputError: It cannot be read.
        """
        return Image.fromarray(object_classes(read_mask(self.path), self.border))


def object_classes(numbers: np.ndarray, border: bool) -> np.ndarray:
    """Classes of numbered objects.

    Args:
        numbers: `(H, W)`, 0 for what is no object.
        border: Whether the border is a class, 2: pixels of an object of which one of the four neighbours has another
            number. The edge of the image is no border.

    Returns:
        `(H, W)` uint8.
    """
    classes = (numbers != 0).astype(np.uint8)
    if not border:
        return classes
    at_border = np.zeros(numbers.shape, bool)
    across, down = numbers[:, 1:] != numbers[:, :-1], numbers[1:] != numbers[:-1]
    at_border[:, 1:] |= across
    at_border[:, :-1] |= across
    at_border[1:] |= down
    at_border[:-1] |= down
    classes[at_border & (numbers != 0)] = 2
    return classes


def is_instances(root: Path) -> bool:
    """Whether there are pairs named as Cellpose does."""
    return root.is_dir() and any(suffix_of(path, SUFFIXES) for path in places(root).values())


def read_instances(root: Path, reading: Reading) -> Found:
    """Reads pairs side by side, or folders of images and of masks.

    Raises:
        InputError: There are none, or only Cellpose's pickles.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    folders = {} if reading.suffix else _folders(root)
    if folders:
        pairs = {}
        for split, (images, masks) in folders.items():
            of_image = {path.stem: path for path in listed_images(masks)}
            some: list[tuple[ImageSource, ImageSource]] = [
                (path, of_image[path.stem]) for path in listed_images(images) if path.stem in of_image
            ]
            left = len(listed_images(images)) - len(some)
            if left:
                message = f"{left} images of {images} have no mask of their name in {masks}. They are left out."
                problems.append(Problem("missing-mask", str(images), message, "warning"))
            pairs[split] = some
    else:
        pickles = [path for path in files_below(root) if path.name.endswith("_seg.npy")] if root.is_dir() else []
        if pickles and not reading.suffix and not is_instances(root):
            raise InputError(
                f"{pickles[0]} is a pickle, which could run any program and is not read. Save the masks as PNG or TIFF "
                "in Cellpose (File, or --save_png, --save_tif)."
            )
        pairs, problems, suffix = find_pairs(root, reading.suffix, SUFFIXES)
        notes.append(f"The masks are the files called NAME{suffix}.")
    if not any(pairs.values()):
        raise InputError(f"{root} has no image with a mask of numbered objects.")
    border = reading.instances == "border"
    classes = ClassTable(("background", "inside", "border") if border else ("background", "foreground"))
    meant = "inside and border" if border else "foreground (--instances border keeps touching objects apart)"
    notes.append(f"Values other than 0 are numbers of objects and become {meant}.")
    splits = {
        split: named_samples([(image, NumberedMask(mask, border)) for image, mask in some], root)
        for split, some in pairs.items()
        if some
    }
    return Found(splits, classes, problems, notes)


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    for first, second in _FOLDERS:
        if (root / first).is_dir() and (root / second).is_dir() and listed_images(root / second):
            return {ALL: (root / first, root / second)}
        above = {
            split: (path / first, path / second)
            for split, path in split_folders(root).items()
            if (path / first).is_dir() and (path / second).is_dir()
        }
        if above:
            return above
    return {}
