"""YOLO segmentation: a text file of polygons for each image, and a data.yaml.

Source: the reader of ultralytics (`ultralytics/data/utils.py`: `img2label_paths`, `verify_image_label`,
`check_det_dataset`). A line is `class x1 y1 x2 y2 ...`, in fractions of the width and height of the upright image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convlora.data.problem import Problem
from convlora.data.reading.images import is_image_file
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.folder import likely_split, subfolders
from convlora.data.sources.formats.found import (
    ALL,
    Found,
    Reading,
    classes_with_background,
    counted,
    files_below,
    images_below,
    named_samples,
    split_folders,
)
from convlora.data.sources.formats.shapes import Polygons, Shape, ShapesMask
from convlora.data.sources.listing import entries
from convlora.errors import InputError, quoted, shown, shown_list
from convlora.untrusted import UnreadableError, read_text, read_yaml

_NAME_FILES = ("classes.txt", "obj.names", "labels.txt")
_LARGEST_TEXT = 1 << 26  # bytes of one label file
_LOOKED_AT = 50  # label files


def find_yaml(root: Path) -> Path | None:
    """The file that describes the data set: data.yaml, or the only YAML file with names in the folder."""
    if root.is_file():
        return root
    files = [path for path in entries(root) if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    for path in sorted(files, key=lambda path: path.stem.lower() not in ("data", "dataset")):
        try:
            fields = read_yaml(path)
        except (OSError, UnreadableError):
            continue
        if isinstance(fields, dict) and "names" in fields:
            return path
    return None


def is_yolo(root: Path) -> bool:
    """Whether there are label files as YOLO's parallel to images; of a file, whether it is a data.yaml."""
    if root.is_file():
        return root.suffix.lower() in (".yaml", ".yml")
    return any(True for _ in _label_files(root, _LOOKED_AT))


def _label_files(root: Path, most: int) -> Iterator[Path]:
    folders = [root / "labels"]
    for folder in subfolders(root):
        folders.append(folder / "labels")
        if folder.name == "labels":
            folders += subfolders(folder)
    looked = 0
    for folder in folders:
        for path in entries(folder) if folder.is_dir() else []:
            if path.suffix.lower() == ".txt" and looked < most:
                looked += 1
                if _starts_like_label(path):
                    yield path


def _starts_like_label(path: Path) -> bool:
    try:
        parts = read_text(path, _LARGEST_TEXT).strip().partition("\n")[0].split()
        return len(parts) >= 5 and float(parts[0]).is_integer() and all(-1 <= float(part) <= 2 for part in parts[1:])
    except (OSError, ValueError, OverflowError):
        return False


def read_yolo(root: Path, reading: Reading) -> Found:
    """Reads a folder, or the data.yaml in it.

    Raises:
        InputError: There are no images, or no outlines.
    """
    description = find_yaml(root)
    folder = root.parent if root.is_file() else root
    fields = _fields(description) if description else {}
    problems: list[Problem] = []
    images = _images_by_split(folder, fields)
    if not any(images.values()):
        raise InputError(f"{folder} has no images where YOLO's label files expect them. Put them into images/.")
    lines: dict[Path, list[tuple[int, tuple[float, ...], int]]] = {}
    broken: list[str] = []
    boxes: list[str] = []
    unlabelled: dict[str, list[Path]] = {}
    for split, files in images.items():
        for image in files:
            label = _label_of(image)
            if label.is_file():
                lines[image] = list(_outlines(label, broken, boxes))
            else:
                unlabelled.setdefault(split, []).append(image)
    used = {number for outlines in lines.values() for number, _, _ in outlines}
    if boxes and not used:
        raise InputError(
            f"The label files of {folder} hold boxes only (the first is {boxes[0]}), and no outlines. Export "
            "polygons: YOLO segmentation."
        )
    names, notes = _names(folder, fields, description, used)
    unlisted = sorted(number for number in used if number not in names)
    if unlisted:
        problems += _unlisted(lines, names, description or folder)
    classes, index = classes_with_background(names.values(), description or folder)
    splits = {}
    for split, files in images.items():
        pairs: list[tuple[ImageSource, ImageSource]] = []
        for image in files:
            shapes = tuple(
                Shape(index[names[number]], Polygons((points,), relative=True), f"line {line}")
                for number, points, line in lines.get(image, ())
                if number in names
            )
            pairs.append((image, ShapesMask(_label_of(image), image, shapes, smaller_on_top=True)))
        splits[split] = named_samples(pairs, folder)
    for split, files in unlabelled.items():
        if len(files) == len(images[split]):
            raise InputError(
                f"No image of {files[0].parent} has a label file, such as {_label_of(files[0])}. Add them."
            )
        remedy = "They count as background. Label them if they show something, or remove them."
        text = ("has no label file", "images have no label file")
        problems += counted("no-annotation", files, *text, remedy, split=split)
    more = ("is no line of a class and a polygon", "lines are no class and polygon")
    problems += counted("broken-label", broken, *more, "They are left out. Correct or remove them.")
    more = ("is a box and no outline", "lines are boxes and no outlines")
    problems += counted("box", boxes, *more, "They are left out. Draw outlines for them.")
    problems += _lonely_labels(folder, images)
    notes.append("Where objects overlap, the smaller one is on top.")
    return Found(splits, classes, problems, notes)


def _unlisted(lines: dict[Path, Any], names: dict[int, str], where: Path) -> list[Problem]:
    files = [_label_of(image) for image, some in lines.items() if any(number not in names for number, _, _ in some)]
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
    folder: Path, fields: dict[str, Any], description: Path | None, used: set[int]
) -> tuple[dict[int, str], list[str]]:
    given = fields.get("names")
    if isinstance(given, list):
        return {number: str(name) for number, name in enumerate(given)}, []
    if isinstance(given, dict):
        try:
            return {int(number): str(name) for number, name in given.items()}, []
        except (TypeError, ValueError) as error:
            raise InputError(f"{description} has names that are not numbered ({shown(error)}). Correct it.") from error
    for name in _NAME_FILES:
        path = folder / name
        if path.is_file():
            try:
                lines = [line.strip() for line in read_text(path, _LARGEST_TEXT).splitlines()]
            except (OSError, ValueError) as error:
                raise InputError(f"{path} cannot be read ({shown(error)}).") from error
            return {number: line for number, line in enumerate(lines) if line}, []
    if not used:
        raise InputError(f"No label file of {folder} holds an outline, so there is nothing to learn.")
    if max(used) > 4095:
        raise InputError(f"A label file of {folder} has the class {max(used)}. Add a data.yaml that names the classes.")
    numbers = {number: f"class {number}" for number in sorted(used)}
    return numbers, [f"{folder} has no data.yaml, so the classes are called {shown_list(list(numbers.values()))}."]


def _images_by_split(folder: Path, fields: dict[str, Any]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for key in ("train", "val", "valid", "test"):
        split = likely_split(key) or key
        given = fields.get(key)
        places = given if isinstance(given, list) else [given] if given else []
        images = [image for place in places for image in _images_at(folder, fields.get("path"), str(place))]
        if images and split not in found:
            found[split] = list(dict.fromkeys(images))
    if found:
        return found
    # What data.yaml says may be about another machine.
    above = {split: path / "images" for split, path in split_folders(folder).items() if (path / "images").is_dir()}
    below = split_folders(folder / "images")
    for folders in (above, below):
        listed = {split: images for split, path in folders.items() if (images := images_below(path))}
        if listed:
            return listed
    undivided = folder / "images"
    return {ALL: images_below(undivided if undivided.is_dir() else folder)}


def _images_at(folder: Path, base: Any, written: str) -> list[Path]:
    """The images of a folder or list that data.yaml names, looked for as ultralytics does."""
    written = written.replace("\\", "/")
    bases = [folder / str(base), folder] if base else [folder]
    names = [written]
    while names[-1].startswith("../"):  # Roboflow writes one level too many
        names.append(names[-1][3:])
    for name in names:
        for one in bases:
            place = one / name
            try:
                if place.is_dir():
                    return images_below(place)
                if place.is_file() and place.suffix.lower() == ".txt":
                    return [path for path in _listed(place, one) if path.is_file()]
            except (OSError, ValueError):
                continue
    return []


def _listed(table: Path, base: Path) -> Iterator[Path]:
    """The images that a text file lists, one a line; `./` stands for the folder of the list."""
    try:
        lines = read_text(table, _LARGEST_TEXT).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{table} cannot be read ({shown(error)}).") from error
    for line in filter(None, map(str.strip, lines)):
        for parent in (table.parent, base):
            path = parent / line.replace("\\", "/")
            if is_image_file(path) and path.is_file():
                yield path
                break


def _label_of(image: Path) -> Path:
    """The label file of an image: the last `images` of its path becomes `labels`."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _outlines(label: Path, broken: list[str], boxes: list[str]) -> Iterator[tuple[int, tuple[float, ...], int]]:
    """Class, corners and line of each outline."""
    try:
        lines = read_text(label, _LARGEST_TEXT).splitlines()
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


def _lonely_labels(folder: Path, images: dict[str, list[Path]]) -> list[Problem]:
    """Label files without an image."""
    wanted = {_label_of(image) for files in images.values() for image in files}
    parents = {label.parent for label in wanted}
    lonely = [
        path
        for parent in sorted(parents)
        if parent.is_dir() and parent.name != folder.name
        for path in files_below(parent)
        if path.suffix.lower() == ".txt" and path not in wanted and path.name not in _NAME_FILES
    ]
    text = ("has no image", "label files have no image")
    return counted("missing-pair", lonely, *text, "They are not used. Add the images, or remove them.")
