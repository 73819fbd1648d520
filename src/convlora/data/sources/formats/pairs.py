"""Images and masks side by side, told apart by the end of the mask's name, as in `a.jpg` and `a_mask.png`.

Roboflow's semantic masks are such pairs with a `_classes.csv` that says what the values mean.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from convlora.data.classes.class_table import ClassTable
from convlora.data.problem import Problem
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.formats.found import (
    ALL,
    Found,
    Reading,
    counted,
    listed_images,
    named_samples,
    split_folders,
)
from convlora.errors import InputError, shown, shown_list
from convlora.untrusted import read_text

SUFFIXES = (
    "_mask", "-mask", ".mask", "_segmentation", "_seg", "_label", "_labels", "_gt", "_groundtruth", "_annotation",
    "_matte", "_manual1", "_Mask", "_MASK",
)  # fmt: skip
CLASSES = "_classes.csv"
_LARGEST = 1 << 22  # bytes


def suffix_of(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> str | None:
    """The end that most masks of a folder have, if there is at least one pair."""
    stems = {path.stem for path in listed_images(folder)}
    counts = {suffix: sum(f"{stem}{suffix}" in stems for stem in stems) for suffix in suffixes}
    best = max(suffixes, key=lambda suffix: counts[suffix])
    return best if counts[best] else None


def places(root: Path) -> dict[str, Path]:
    """The folders of pairs: those of the splits, or the folder itself."""
    found = {split: path for split, path in split_folders(root).items() if listed_images(path)}
    if found and not listed_images(root):
        return found
    return {ALL: root}


def is_pairs(root: Path) -> bool:
    """Whether there are pairs."""
    return root.is_dir() and any(suffix_of(path) for path in places(root).values())


def is_roboflow(root: Path) -> bool:
    """Whether there are pairs with Roboflow's table."""
    return root.is_dir() and any((path / CLASSES).is_file() for path in places(root).values()) and is_pairs(root)


def find_pairs(
    root: Path, given: str | None, suffixes: tuple[str, ...] = SUFFIXES
) -> tuple[dict[str, list[tuple[ImageSource, ImageSource]]], list[Problem], str]:
    """Pairs the images of all splits with their masks.

    Returns:
        The pairs by split, the problems, and the end of the masks' names.

    Raises:
        InputError: There is no pair.
    """
    folders = places(root)
    known = (suffix_of(path, suffixes) for path in folders.values())
    suffix = given or next((one for one in known if one), None)
    if suffix is None:
        raise InputError(
            f"{root} has no image and mask side by side, such as a.jpg and a_mask.png. Give the end of the masks' "
            "names with --suffix."
        )
    pairs: dict[str, list[tuple[ImageSource, ImageSource]]] = {}
    problems: list[Problem] = []
    for split, folder in folders.items():
        files = listed_images(folder)
        masks = {path.stem[: -len(suffix)]: path for path in files if path.stem.endswith(suffix)}
        images = [path for path in files if not path.stem.endswith(suffix)]
        pairs[split] = [(image, masks[image.stem]) for image in images if image.stem in masks]
        alone = [image for image in images if image.stem not in masks]
        text = ("has no mask", "images have no mask")
        where = None if split == ALL else split
        more = {} if where is None else {"split": where}
        problems += counted("missing-mask", alone, *text, f"They are left out. Add masks named NAME{suffix}.", **more)
        stems = {image.stem for image in images}
        lonely = [mask for stem, mask in masks.items() if stem not in stems]
        text = ("has no image", "masks have no image")
        problems += counted("missing-pair", lonely, *text, "They are left out. Add the images.", **more)
    if not any(pairs.values()):
        raise InputError(
            f"No image in {root} has a mask named NAME{suffix}. Give the end of the masks' names with --suffix."
        )
    return pairs, problems, suffix


def read_pairs_beside(root: Path, reading: Reading) -> Found:
    """Reads pairs. The values of the masks, or classes.json, say what the classes are."""
    pairs, problems, suffix = find_pairs(root, reading.suffix)
    splits = {split: named_samples(some, root) for split, some in pairs.items()}
    return Found(splits, None, problems, [f"The masks are the files called NAME{suffix}."])


def read_roboflow(root: Path, reading: Reading) -> Found:
    """Reads Roboflow's semantic masks.

    Raises:
        InputError: The tables of the splits differ, or cannot be read.
    """
    pairs, problems, _ = find_pairs(root, "_mask")
    tables = {path / CLASSES: _table(path / CLASSES) for path in places(root).values() if (path / CLASSES).is_file()}
    first, values = next(iter(tables.items()))
    for path, other in tables.items():
        if other != values:
            raise InputError(f"{first} and {path} name other classes. Export all splits together.")
    names = tuple(values.values())
    pairs_of = tuple((value, index) for index, value in enumerate(values))
    plain = tuple(values) == tuple(range(len(values)))
    classes = ClassTable(names, label_map=None if plain else (*pairs_of, (255, 255)) if 255 not in values else pairs_of)
    return Found({split: named_samples(some, root) for split, some in pairs.items()}, classes, problems)


def _table(path: Path) -> dict[int, str]:
    """Name by pixel value, in the order of the values."""
    try:
        rows = list(csv.reader(io.StringIO(read_text(path, _LARGEST)), skipinitialspace=True))
        header = [cell.strip().lower() for cell in rows[0]]
        value, name = header.index("pixel value"), header.index("class")
        found = {int(row[value]): row[name].strip() for row in rows[1:] if len(row) > max(value, name)}
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise InputError(
            f"{path} is not Roboflow's table of Pixel Value and Class ({shown(error)}). Export it again."
        ) from error
    if len(found) < 2 or len(set(found.values())) < len(found):
        raise InputError(f"{path} names the classes {shown_list(list(found.values()))}; at least two must differ.")
    return dict(sorted(found.items()))
