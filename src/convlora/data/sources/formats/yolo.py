"""YOLO segmentation: a text file of polygons for each image, and a data.yaml.

Source: the reader of ultralytics (`ultralytics/data/utils.py`: `img2label_paths`, `verify_image_label`,
`check_det_dataset`). A line is `class x1 y1 x2 y2 ...`, in fractions of the width and height of the upright image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from convlora.data.problem import Problem
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.formats.found import (
    Found,
    Reading,
    classes_with_background,
    counted,
    named_samples,
)
from convlora.data.sources.formats.shapes import Polygons, Shape, ShapesMask
from convlora.data.sources.formats.yolo_files import (
    LARGEST_TEXT,
    NAME_FILES,
    find_yaml,
    images_by_split,
    is_beside,
    is_yolo,
    label_of,
    lonely_labels,
)
from convlora.errors import InputError, quoted, shown, shown_list
from convlora.untrusted import UnreadableError, read_text, read_yaml

__all__ = ["is_beside", "is_yolo", "read_yolo"]


def read_yolo(root: Path, reading: Reading) -> Found:
    """Reads a folder, or the data.yaml in it.

    Raises:
        InputError: There are no images, or no outlines.
    """
    description = find_yaml(root)
    folder = root.parent if root.is_file() else root
    fields = _fields(description) if description else {}
    problems: list[Problem] = []
    images = images_by_split(folder, fields)
    if not any(images.values()):
        raise InputError(f"{folder} has no images where YOLO's label files expect them. Put them into images/.")
    lines: dict[Path, list[tuple[int, tuple[float, ...], int]]] = {}
    broken: list[str] = []
    boxes: list[str] = []
    labels: dict[Path, Path] = {}
    unlabelled: dict[str, list[Path]] = {}
    for split, files in images.items():
        for image in files:
            label = labels[image] = label_of(image)
            if label.is_file():
                lines[image] = list(_outlines(label, broken, boxes))
            else:
                unlabelled.setdefault(split, []).append(image)
    used = {number for outlines in lines.values() for number, _, _ in outlines}
    for split, files in unlabelled.items():
        if len(files) == len(images[split]):
            raise InputError(f"No image of {files[0].parent} has a label file, such as {labels[files[0]]}. Add them.")
    if boxes and not used:
        raise InputError(
            f"The label files of {folder} hold boxes only (the first is {boxes[0]}), and no outlines. Export "
            "polygons: YOLO segmentation."
        )
    if not used:
        raise InputError(f"No label file of {folder} holds an outline, so there is nothing to learn. Export polygons.")
    names, notes = _names(folder, labels.values(), fields, description, used)
    unlisted = sorted(number for number in used if number not in names)
    if unlisted:
        problems += _unlisted(labels, lines, names, description or folder)
    classes, index = classes_with_background(names.values(), description or folder)
    splits = {}
    for split, files in images.items():
        pairs: list[tuple[ImageSource, ImageSource]] = []
        for image in files:
            shapes = tuple(
                Shape(index[names[number]], Polygons((points,), relative=True, traced=True), f"line {line}")
                for number, points, line in lines.get(image, ())
                if number in names
            )
            pairs.append((image, ShapesMask(labels[image], image, shapes, smaller_on_top=True)))
        splits[split] = named_samples(pairs, folder)
    for split, files in unlabelled.items():
        remedy = "They count as background. Label them if they show something, or remove them."
        text = ("has no label file", "images have no label file")
        problems += counted("no-annotation", files, *text, remedy, split=split)
    more = ("is no line of a class and a polygon", "lines are no class and polygon")
    problems += counted("broken-label", broken, *more, "They are left out. Correct or remove them.")
    more = ("is a box and no outline", "lines are boxes and no outlines")
    problems += counted("box", boxes, *more, "They are left out. Draw outlines for them.")
    text = ("has no image", "label files have no image")
    lonely = lonely_labels(labels, labels.values())
    problems += counted("missing-pair", lonely, *text, "They are not used. Add the images, or remove them.")
    notes.append("Where objects overlap, the smaller one is on top.")
    return Found(splits, classes, problems, notes)


def _unlisted(labels: dict[Path, Path], lines: dict[Path, Any], names: dict[int, str], where: Path) -> list[Problem]:
    files = [labels[image] for image, some in lines.items() if any(number not in names for number, _, _ in some)]
    numbers = sorted({number for some in lines.values() for number, _, _ in some if number not in names})
    message = (
        f"{where} names {len(names)} classes, but label files hold the numbers {shown_list(numbers)} (the first is "
        f"{files[0]}). Their outlines are left out. Add the names."
    )
    return [Problem("unknown-class", str(files[0]), message, "warning")]


def _fields(description: Path) -> dict[str, Any]:
    try:
        fields = read_yaml(description)
    except OSError as error:
        raise InputError(f"{description} cannot be read ({error.strerror or error}).") from error
    except UnreadableError as error:
        raise InputError(f"{description} is not read: {shown(error)}. Correct it.") from error
    if not isinstance(fields, dict):
        raise InputError(f"{description} is no YAML file with names, train and val. Correct it.")
    return fields


def _names(
    folder: Path, labels: Iterable[Path], fields: dict[str, Any], description: Path | None, used: set[int]
) -> tuple[dict[int, str], list[str]]:
    """The names by number, from data.yaml, or from a list beside it or beside the label files."""
    given = fields.get("names")
    if isinstance(given, list):
        return {number: str(name) for number, name in enumerate(given)}, []
    if isinstance(given, dict):
        try:
            return {int(number): str(name) for number, name in given.items()}, []
        except (TypeError, ValueError) as error:
            raise InputError(f"{description} has names that are not numbered ({shown(error)}). Correct it.") from error
    places = [folder, *sorted({label.parent for label in labels} - {folder})]
    listed = {path: _listed_names(path) for place in places for name in NAME_FILES if (path := place / name).is_file()}
    if listed:
        first, names = next(iter(listed.items()))
        other = next((path for path, other in listed.items() if other != names), None)
        if other is not None:
            raise InputError(f"{first} and {other} list different classes. Correct or remove one of them.")
        return names, []
    if max(used) > 4095:
        raise InputError(f"A label file of {folder} has the class {max(used)}. Add a data.yaml that names the classes.")
    numbers = {number: f"class {number}" for number in sorted(used)}
    return numbers, [f"{folder} has no data.yaml, so the classes are called {shown_list(list(numbers.values()))}."]


def _listed_names(path: Path) -> dict[int, str]:
    try:
        lines = [line.strip() for line in read_text(path, LARGEST_TEXT).splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({shown(error)}).") from error
    return {number: line for number, line in enumerate(lines) if line}


def _outlines(label: Path, broken: list[str], boxes: list[str]) -> Iterator[tuple[int, tuple[float, ...], int]]:
    """Class, corners and line of each outline."""
    try:
        lines = read_text(label, LARGEST_TEXT).splitlines()
    except (OSError, ValueError) as error:
        broken.append(f"{label} ({shown(error)})")
        return
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts:
            continue
        try:
            kind, points = float(parts[0]), tuple(map(float, parts[1:]))
            if not kind.is_integer() or kind < 0:
                raise ValueError(quoted(parts[0]))
        except (ValueError, OverflowError):
            broken.append(f"{label} line {number}")
            continue
        if len(points) == 4:
            boxes.append(f"{label} line {number}")
        elif len(points) < 6 or len(points) % 2 or not all(abs(point) < 1e6 for point in points):
            broken.append(f"{label} line {number}")
        else:
            yield int(kind), points, number
