"""`coco.json` beside predictions: the masks of all objects in COCO's form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError, shown
from convlora.inference.files.pieces import read_piece
from convlora.links import is_link
from convlora.locking import only_one
from convlora.storage import SOFTWARE, replacing_file
from convlora.untrusted import read_json

NAME = "coco.json"
_LOCK = ".coco.lock"
_LARGEST = 1 << 30  # bytes
Known = dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]  # image and its annotations, by stem


def check_coco(output: Path, classes: ClassTable, images: Sequence[str]) -> None:
    """Checks before a prediction that objects can be added to what is in a folder.

    Args:
        output: The folder of the results.
        classes: The classes.
        images: Names of the images that are about to be predicted, without suffix.

    Raises:
        InputError: If there is a file of that name which is none of ours, or annotations of other classes would be
            lost.
    """
    _kept(output, classes, images)


def add_coco(output: Path, classes: ClassTable, images: Sequence[str], pieces: Sequence[Path]) -> None:
    """Writes the file, sorted by the names of the images; what stands there of other images and the same classes stays.

    Args:
        output: The folder of the results.
        classes: The classes.
        images: Names of all images that were to be predicted, without suffix.
        pieces: Pieces of each segmented image, see `convlora.inference.files.pieces`.

    Raises:
        InputError: As [`check_coco`]; or a piece is none of ours.
    """
    if not pieces:
        return
    with only_one(output, _LOCK, wait=True):
        kept = _kept(output, classes, images)
        new = {str(next(read_piece(piece))["image"]): piece for piece in pieces}
        for name in new:
            kept.pop(Path(name).stem, None)
        names = sorted([*new, *(str(image["file_name"]) for image, _ in kept.values())])
        pictures: list[dict[str, Any]] = []
        with replacing_file(output / NAME) as temporary, temporary.open("w", encoding="utf-8") as file:
            head = {
                "info": {"description": "Objects found in images", "software": SOFTWARE},
                "licenses": [],
                "categories": _categories(classes),
            }
            file.write(json.dumps(head)[:-1] + ',\n"annotations": [')
            number = 0
            for place, name in enumerate(names):
                if name in new:
                    entries = read_piece(new[name])
                    height, width = next(entries)["size"]
                    found: Iterable[dict[str, Any]] = (
                        _annotation(entry, classes, [height, width]) for entry in entries
                    )
                else:
                    earlier, found = kept[Path(name).stem]
                    height, width = earlier["height"], earlier["width"]
                pictures.append({"id": place + 1, "file_name": name, "height": height, "width": width})
                for annotation in found:
                    file.write(",\n" if number else "\n")
                    number += 1
                    file.write(json.dumps({"id": number, "image_id": place + 1} | annotation))
            file.write('],\n"images": ' + json.dumps(pictures) + "}\n")


def category_of(kind: int, classes: ClassTable) -> int:
    """The number of a class as a category: from 1, as 0 is background to many programs."""
    return kind if classes.background == 0 else kind + 1


def _categories(classes: ClassTable) -> list[dict[str, Any]]:
    return [
        {"id": category_of(index, classes), "name": name, "supercategory": ""}
        for index, name in enumerate(classes.names)
        if index != classes.background
    ]


def _annotation(entry: dict[str, Any], classes: ClassTable, size: list[int]) -> dict[str, Any]:
    left, top = entry["left"], entry["top"]
    return {
        "category_id": category_of(entry["class"], classes),
        "segmentation": {"size": size, "counts": entry["counts"]},
        "area": entry["area_px"],
        "bbox": [left, top, entry["right"] - left, entry["bottom"] - top],
        "iscrowd": 0,
        "score": round(entry["mean_probability"], 6),
        "object": entry["object"],
    }


def _kept(output: Path, classes: ClassTable, images: Sequence[str]) -> Known:
    """What is in a folder to which that of some images can be added."""
    categories, earlier = _read(output)
    if categories in (None, _categories(classes)):
        return earlier
    lost = sorted(earlier.keys() - set(images))
    if lost:
        raise InputError(
            f"{output / NAME} has objects of other classes, also of images that are not predicted now, such as "
            f"{shown(lost[0])}. Choose another --output."
        )
    return {}


def _read(output: Path) -> tuple[list[dict[str, Any]] | None, Known]:
    path = output / NAME
    if not path.exists() and not is_link(path):
        return None, {}
    try:
        if is_link(path):
            raise ValueError("a link")
        content = read_json(path, _LARGEST)
        if not str(content["info"]["software"]).startswith(SOFTWARE):
            raise ValueError("not made by convlora")
        by_number: dict[Any, tuple[dict[str, Any], list[dict[str, Any]]]]
        by_number = {image["id"]: (image, []) for image in content["images"]}
        for annotation in content["annotations"]:
            del annotation["id"]
            by_number[annotation.pop("image_id")][1].append(annotation)
        known = {Path(image["file_name"]).stem: (image, found) for image, found in by_number.values()}
        if any(not {"height", "width"} <= image.keys() for image, _ in known.values()):
            raise ValueError("an image without a size")
        return list(content["categories"]), known
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} exists and was not made by convlora. Choose another --output.") from error
