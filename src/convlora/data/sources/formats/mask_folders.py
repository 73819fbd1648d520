"""Folders of images and folders of masks, as nnU-Net and MMSegmentation have them.

Source: the pages on data sets of nnU-Net ("dataset format") and of MMSegmentation ("prepare datasets"), and ADE20K
(`objectInfo150.txt`, 0 for what has no label).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convlora.data.classes.class_table import ClassTable
from convlora.data.problem import Problem
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.formats.found import (
    ALL,
    BACKGROUND,
    Found,
    Reading,
    counted,
    images_below,
    json_of,
    listed_images,
    named_samples,
    split_folders,
)
from convlora.errors import InputError, shown
from convlora.untrusted import read_text

_LAYOUTS = (("img_dir", "ann_dir"), ("images", "annotations"), ("images", "labels"), ("leftImg8bit", "gtFine"))
_ENDS = re.compile(r"(_labelTrainIds|_labelIds|_gtFine_labelTrainIds|_leftImg8bit|_gtFine|_instance_color_RGB)+$")
_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")


def is_nnunet(root: Path) -> bool:
    """Whether there are dataset.json, imagesTr and labelsTr."""
    return root.is_dir() and (root / "dataset.json").is_file() and (root / "labelsTr").is_dir()


def read_nnunet(root: Path, reading: Reading) -> Found:
    """Reads a raw data set of nnU-Net of images in two dimensions.

    Raises:
        InputError: It holds volumes, or regions in place of classes, or several files for an image.
    """
    if not is_nnunet(root):
        raise InputError(f"{root} has no dataset.json with imagesTr and labelsTr. Give the folder DatasetNNN_NAME.")
    fields: Any = json_of(root / "dataset.json")
    classes = _nnunet_classes(fields, root / "dataset.json")
    ending = str(fields.get("file_ending", ""))
    if ending in _VOLUMES or any(path.name.endswith(_VOLUMES) for path in list((root / "imagesTr").iterdir())[:5]):
        raise InputError(f"{root} holds volumes ({ending or '.nii.gz'}), which are not read here. Save slices as PNG.")
    splits: dict[str, list[tuple[ImageSource, ImageSource]]] = {}
    problems: list[Problem] = []
    for split, images, labels in (("train", "imagesTr", "labelsTr"), ("test", "imagesTs", "labelsTs")):
        if not (root / images).is_dir():
            continue
        if split == "test" and not (root / labels).is_dir():
            alone: Sequence[object] = listed_images(root / images)
            text = ("has no labels", "images of imagesTs have no labels")
            problems += counted("missing-mask", alone, *text, "They are left out.")
            continue
        pairs, found = _nnunet_pairs(root / images, root / labels)
        problems += found
        if pairs:
            splits[split] = pairs
    if not splits:
        raise InputError(f"No image of {root / 'imagesTr'}, such as CASE_0000.png, has its CASE.png in labelsTr.")
    if list(splits) == ["train"]:
        splits = {ALL: splits["train"]}
    return Found({split: named_samples(pairs, root) for split, pairs in splits.items()}, classes, problems)


def _nnunet_pairs(images: Path, labels: Path) -> tuple[list[tuple[ImageSource, ImageSource]], list[Problem]]:
    masks = {path.stem: path for path in listed_images(labels)}
    channels: dict[str, list[Path]] = {}
    for path in listed_images(images):
        case, _, channel = path.stem.rpartition("_")
        if re.fullmatch(r"\d{4}", channel):
            channels.setdefault(case, []).append(path)
    several = next((paths for paths in channels.values() if len(paths) > 1), None)
    if several:
        raise InputError(
            f"{several[0]} and {several[1].name} are channels of one image in files of their own, which is not read. "
            "Save one file per image."
        )
    pairs: list[tuple[ImageSource, ImageSource]] = [
        (paths[0], masks[case]) for case, paths in channels.items() if case in masks
    ]
    text = ("has no label", "images have no label")
    alone = [paths[0] for case, paths in channels.items() if case not in masks]
    problems = counted("missing-mask", alone, *text, "They are left out.")
    text = ("has no image", "labels have no image")
    lonely = [path for case, path in masks.items() if case not in channels]
    problems += counted("missing-pair", lonely, *text, "They are left out. Images are called CASE_0000.")
    return pairs, problems


def _nnunet_classes(fields: Any, path: Path) -> ClassTable:
    """The classes: name to number, or number to name as the first nnU-Net has them."""
    try:
        given = fields["labels"].items()
        if all(str(key).isdigit() for key, _ in given):
            given = [(name, int(value)) for value, name in given]
        if any(isinstance(value, list) for _, value in given):
            raise InputError(f"{path} has regions, labels of several numbers, which are not read. Use one number each.")
        numbers = sorted((int(value), str(name)) for name, value in given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} has no labels such as {{'background': 0, 'cell': 1}} ({shown(error)}).") from error
    ignored = [number for number, name in numbers if name == "ignore"]
    kept = [(number, name) for number, name in numbers if name != "ignore"]
    names = tuple(name for _, name in kept)
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"{path} needs at least two labels with names that differ.")
    table = tuple((number, index) for index, (number, _) in enumerate(kept)) + tuple((one, 255) for one in ignored)
    return ClassTable(names, label_map=None if table == tuple((one, one) for one in range(len(names))) else table)


def _mmseg_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and of masks of each split."""
    for first, second in _LAYOUTS:
        images, masks = split_folders(root / first), split_folders(root / second)
        both = {split: (images[split], masks[split]) for split in images if split in masks}
        if both and any(images_below(mask) for _, mask in both.values()):
            return both
    return {}


def is_mmseg(root: Path) -> bool:
    """Whether images and masks lie in two folders with the same folders of splits."""
    return root.is_dir() and bool(_mmseg_folders(root))


def read_mmseg(root: Path, reading: Reading) -> Found:
    """Reads a layout such as img_dir/train with ann_dir/train, or ADE20K's.

    Raises:
        InputError: No image has a mask.
    """
    folders = _mmseg_folders(root)
    if not folders:
        raise InputError(
            f"{root} has no img_dir/train with ann_dir/train, or images/training with annotations/training."
        )
    splits = {}
    problems: list[Problem] = []
    for split, (images, masks) in folders.items():
        of_image = _masks(masks)
        found = {_key(path, images): path for path in images_below(images)}
        pairs: list[tuple[ImageSource, ImageSource]] = [
            (path, of_image[key]) for key, path in found.items() if key in of_image
        ]
        alone = [path for key, path in found.items() if key not in of_image]
        text = ("has no mask", "images have no mask")
        problems += counted("missing-mask", alone, *text, "They are left out.", split=split)
        lonely = [path for key, path in of_image.items() if key not in found]
        text = ("has no image", "masks have no image")
        problems += counted("missing-pair", lonely, *text, "They are left out.", split=split)
        if pairs:
            splits[split] = named_samples(pairs, images)
    if not splits:
        raise InputError(f"No image of {root} has a mask of its name. Give both the same stem.")
    names = _ade_names(root / "objectInfo150.txt")
    if names is None:
        return Found(splits, None, problems)
    pairs_of = (*((index + 1, index) for index in range(len(names))), (0, 255))
    notes = [f"The classes are those of {root / 'objectInfo150.txt'}; pixels of value 0 do not count."]
    return Found(splits, ClassTable(names, label_map=pairs_of), problems, notes)


def _key(path: Path, folder: Path) -> str:
    """What an image and its mask share: folders and the stem without the usual ends."""
    return (path.relative_to(folder).parent / _ENDS.sub("", path.stem)).as_posix()


def _masks(folder: Path) -> dict[str, Path]:
    """The masks by their keys; of the several pictures that Cityscapes has of each, one."""
    found = images_below(folder)
    is_prepared = any(path.stem.endswith("_gtFine_labelTrainIds") for path in found)
    others = ("_color", "_instanceIds", "_polygons", "_labelIds" if is_prepared else "_labelTrainIds")
    return {_key(path, folder): path for path in found if not ("_gtFine_" in path.stem and path.stem.endswith(others))}


def _ade_names(path: Path) -> tuple[str, ...] | None:
    """The classes of ADE20K's list: the last column of each line, its first word."""
    if not path.is_file():
        return None
    try:
        lines = [line.split("\t") for line in read_text(path, 1 << 20).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({shown(error)}).") from error
    names = [line[-1].strip() for line in lines[1:]]
    if len(names) < 2 or len(set(names)) < len(names) or BACKGROUND in names[1:]:
        raise InputError(f"{path} does not list classes whose names differ.")
    return tuple(names)
