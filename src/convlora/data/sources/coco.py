"""Data sets with annotations in COCO's JSON formats, panoptic and instance."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from convlora.data.classes.class_table import ClassTable
from convlora.data.classes.classes_json import is_readable
from convlora.data.problem import Problem
from convlora.data.reading.colours import Colour
from convlora.data.sample import Sample, unique_names
from convlora.data.sources.coco_files import LARGEST_COCO
from convlora.data.sources.coco_masks import CocoMask, PanopticMask
from convlora.data.sources.listing import find_written
from convlora.errors import InputError, quoted, shown
from convlora.untrusted import UnreadableError, read_text

BACKGROUND = "background"
_WIDE = 65535  # ignore value where 255 is a class


@dataclass(frozen=True)
class CocoAnnotations:
    """One JSON file, read and checked.

    Args:
        path: The file.
        is_panoptic: Whether segments lie in PNG files, with their numbers as colours.
        images: The file's entries of images.
        segments: Entries of annotations by image id, as text.
        categories: Name by category id, in the order of the ids.
        groups: Names of categories that others name as their supercategory.
        colors: Colour by category id, if the file gives every category one.
    """

    path: Path
    is_panoptic: bool
    images: tuple[dict[str, Any], ...]
    segments: Mapping[str, Sequence[dict[str, Any]]]
    categories: Mapping[int, str]
    groups: frozenset[str] = frozenset()
    colors: Mapping[int, Colour] | None = None


def read_annotations(path: Path) -> CocoAnnotations:
    """Reads a COCO file.

    Raises:
        InputError: The file is damaged or lacks what is needed.
    """
    try:
        fields = json.loads(read_text(path, LARGEST_COCO))
        images = tuple(
            {**entry, "file_name": str(entry["file_name"]), "id": _image_id(entry["id"])} for entry in fields["images"]
        )
        named = [(_whole(entry["id"]), str(entry["name"])) for entry in fields["categories"]]
        categories = dict(named)
        groups = frozenset(str(entry.get("supercategory")) for entry in fields["categories"])
        segments: dict[str, list[dict[str, Any]]] = defaultdict(list)
        is_panoptic = any("segments_info" in entry for entry in fields["annotations"])
        for entry in fields["annotations"]:
            if is_panoptic:
                entry["segments_info"] = [
                    {"id": _whole(one["id"]), "category_id": _whole(one["category_id"])}
                    for one in entry["segments_info"]
                ]
            else:
                entry["category_id"] = _whole(entry["category_id"])
            segments[_image_id(entry["image_id"])].append(entry)
        colors: dict[int, Colour] = {}
        for entry in fields["categories"]:
            if entry.get("color"):
                red, green, blue = map(int, entry["color"])
                colors[_whole(entry["id"])] = (red, green, blue)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text. Export it again.") from error
    except UnreadableError as error:
        raise InputError(f"{path} is not read: {error}. Name the JSON file of the annotations.") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON of COCO annotations: it goes wrong in line {error.lineno}, column "
            f"{error.colno}. Export it again."
        ) from error
    except (ValueError, OverflowError, RecursionError) as error:  # JSON has numbers without end, such as 1e999
        raise InputError(
            f"{path} holds something else than COCO annotations ({shown(error)}). Export it again."
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        lacking = f"{error} is missing" if isinstance(error, KeyError) else "an entry is of another kind"
        raise InputError(
            f"{path} is not a COCO annotation file: {lacking}. It needs the lists images, annotations and categories."
        ) from error
    drawn = [entry.get("segmentation") for entries in segments.values() for entry in entries]
    if drawn and not is_panoptic and not any(drawn):
        raise InputError(
            f"The annotations of {path} have boxes at most, and no outlines (segmentation). Export polygons or masks."
        )
    _refuse_repeated(path, "categories", [(str(category), name) for category, name in named])
    _refuse_repeated(path, "images", [(entry["id"], entry["file_name"]) for entry in images])
    unreadable = next((name for name in categories.values() if not is_readable(name)), None)
    if unreadable is not None:
        raise InputError(f"{path} has the category {quoted(unreadable)}, which holds control characters. Rename it.")
    if not categories:
        raise InputError(f"{path} names no categories, so there is nothing to learn. Export it with its categories.")
    known = len(set(colors.values())) == len(categories) and all(
        0 <= part <= 255 for one in colors.values() for part in one
    )
    ordered = dict(sorted(categories.items()))
    return CocoAnnotations(path, is_panoptic, images, segments, ordered, groups, colors if known else None)


def _whole(value: Any) -> int:
    """A number that stands for something; JSON written by way of tables has 3.0 for 3."""
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"the id {quoted(value)} is no whole number")
    return int(value)


def _image_id(value: Any) -> str:
    """What an image is called by, a number or a text."""
    return str(_whole(value) if isinstance(value, float) else value)


def _refuse_repeated(path: Path, what: str, entries: Sequence[tuple[str, str]]) -> None:
    """Raises if two entries share an id: each would get the annotations of both."""
    first: dict[str, str] = {}
    for number, name in entries:
        if number in first:
            raise InputError(
                f"{path} gives the id {shown(number)} to two {what}, {quoted(first[number])} and {quoted(name)}. "
                "Give each its own, in the annotations too."
            )
        first[number] = name


def class_table(annotations: Sequence[CocoAnnotations]) -> tuple[ClassTable, dict[int, int], list[str]]:
    """The classes of some files, which must name the same categories.

    Instances leave the rest of an image to a class "background", the first. In panoptic files what belongs to no
    segment is ignored, unless there is one category only. A category that nothing is annotated with and that others
    name as their supercategory (Roboflow adds one) is no class.

    Returns:
        The classes, the class index by category id, and sentences about categories that are left out.

    Raises:
        InputError: The files differ, or a name stands for two categories.
    """
    first = annotations[0]
    for other in annotations[1:]:
        if other.is_panoptic != first.is_panoptic:
            raise InputError(
                f"Of {first.path} and {other.path} one holds instances, one panoptic segments. Export them alike."
            )
        if other.categories != first.categories:
            raise InputError(
                f"{first.path} and {other.path} do not name the same categories: "
                f"{_difference(first.categories, other.categories)}. Export them alike."
            )
    used = {category for one in annotations for category in _used(one)}
    notes = []
    categories = dict(first.categories)
    for category, name in first.categories.items():
        if category not in used and name in first.groups and len(categories) > 1:
            notes.append(
                f"The category '{name}' of {first.path} is left out: it is a group, and nothing is annotated with it."
            )
            del categories[category]
    names = list(categories.values())
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(
            f"{first.path} has more than one category called {quoted(repeated[0])}. Give each its own name."
        )
    colors = None
    if first.is_panoptic and len(names) > 1:
        index = {category: place for place, category in enumerate(categories)}
        colors = tuple(first.colors[category] for category in categories) if first.colors else None
    else:
        own = [category for category, name in categories.items() if name.lower() == BACKGROUND]
        others = [category for category in categories if category not in own]
        index = {**dict.fromkeys(own, 0), **{category: place for place, category in enumerate(others, start=1)}}
        names = [BACKGROUND, *(categories[category] for category in others)]
    if len(names) < 2:
        raise InputError(f"{first.path} names no category but the background, so there is nothing to tell apart.")
    return ClassTable(tuple(names), 255 if len(names) <= 255 else _WIDE, colors=colors), index, notes


def _difference(first: Mapping[int, str], other: Mapping[int, str]) -> str:
    """The first category in which two files differ, in words."""
    category = next(one for one in sorted({*first, *other}) if first.get(one) != other.get(one))
    names = [quoted(one[category]) if category in one else "missing" for one in (first, other)]
    return f"number {category} is {names[0]} in the one and {names[1]} in the other"


def _used(annotations: CocoAnnotations) -> set[int]:
    """The categories that something is annotated with."""
    entries = [entry for entries in annotations.segments.values() for entry in entries]
    if annotations.is_panoptic:
        return {one["category_id"] for entry in entries for one in entry["segments_info"]}
    return {entry["category_id"] for entry in entries}


def read_coco(
    annotations: CocoAnnotations, classes: ClassTable, index: Mapping[int, int]
) -> tuple[list[Sample], list[Problem]]:
    """Lists the samples of a file.

    Args:
        annotations: The file.
        classes: The classes.
        index: Class index by category id, as of [`class_table`].

    Returns:
        The samples in the order of the file, and a problem for each image or PNG file that is missing.
    """
    samples: list[tuple[Path, CocoMask | PanopticMask]] = []
    problems: list[Problem] = []
    folders = _image_folders(annotations.path)
    strangers = sorted(annotations.segments.keys() - {entry["id"] for entry in annotations.images})
    if strangers:
        message = (
            f"{annotations.path} has annotations of image id {strangers[0]}, which it does not list"
            + (f" (and {len(strangers) - 1} more such ids)" if len(strangers) > 1 else "")
            + ". Export it again, or remove them."
        )
        none_fits = len(strangers) == len(annotations.segments)
        severity: Literal["error", "warning"] = "error" if none_fits else "warning"
        problems.append(Problem("wrong-ids", str(annotations.path), message, severity))
    ids: dict[Path, str] = {}
    plain = Counter(PureWindowsPath(entry["file_name"]).name for entry in annotations.images)
    for entry in annotations.images:
        names = [entry["file_name"], PureWindowsPath(entry["file_name"]).name]
        if plain[names[1]] > 1:
            names.pop()  # where names are paths on another machine, the last part must tell images apart
        found_in = (find_written(folder, name) for name in names for folder in folders)
        image = next((path for path in found_in if path is not None), None)
        if image is None:
            message = (
                f"{annotations.path} lists {entry['file_name']}, which is not in "
                f"{' or '.join(str(folder) for folder in folders)}. Put it there, or remove its entry."
            )
            problems.append(Problem("missing-pair", str(annotations.path.parent / entry["file_name"]), message))
            continue
        if image in ids:
            both = f"{shown(ids[image])} and {shown(entry['id'])}"
            message = (
                f"{annotations.path} lists {shown(entry['file_name'])} twice, with the ids {both}, so that annotations "
                "of the one are background in the other. Put them together under one id."
            )
            problems.append(Problem("duplicate-image", str(image), message, "warning"))
        ids.setdefault(image, entry["id"])
        segments = annotations.segments.get(entry["id"], [])
        if annotations.is_panoptic:
            mask = _panoptic(annotations.path, image, segments, index, classes)
            if mask is None:
                where = annotations.path.with_suffix("")
                message = f"{annotations.path} has no PNG file for {entry['file_name']}; it should lie in {where}."
                problems.append(Problem("missing-pair", str(image), message))
                continue
            samples.append((image, mask))
        else:
            samples.append((image, CocoMask(annotations.path, image, entry, tuple(segments), dict(index))))
    problems += _empty_images(annotations)
    names = unique_names([image for image, _ in samples], annotations.path.parent)
    return [Sample(image, mask, name) for (image, mask), name in zip(samples, names, strict=True)], problems


def _empty_images(annotations: CocoAnnotations) -> list[Problem]:
    """Warns of images that are nothing but background because their annotations may have been forgotten.

    Where no image has any, it is said of the split that there is nothing to learn.
    """
    empty = [entry["file_name"] for entry in annotations.images if entry["id"] not in annotations.segments]
    count = len(annotations.images)
    if annotations.is_panoptic or not empty or len(empty) == count:
        return []
    message = (
        f"{len(empty):,} of {count:,} images of {annotations.path} (the first is {shown(empty[0])}) "
        f"{'has' if len(empty) == 1 else 'have'} no annotation and {'counts' if len(empty) == 1 else 'count'} as "
        "background. Annotate them if they show something."
    )
    return [Problem("no-annotation", str(annotations.path), message, "warning")]


def _panoptic(
    path: Path,
    image: Path,
    segments: Sequence[dict[str, Any]],
    index: Mapping[int, int],
    classes: ClassTable,
) -> PanopticMask | None:
    for entry in segments:
        name = str(entry.get("file_name", ""))
        for folder in _png_folders(path):
            png = find_written(folder, name) if name else None
            if png is not None:
                unlisted = [one["category_id"] for one in entry["segments_info"] if one["category_id"] not in index]
                if unlisted:
                    raise InputError(f"{path} uses the category {unlisted[0]} for {name}, which is not listed.")
                kinds = {one["id"]: index[one["category_id"]] for one in entry["segments_info"]}
                nothing = 0 if classes.background == 0 and 0 not in index.values() else classes.ignore_index
                deep = max(classes.num_classes - 1, classes.ignore_index) > 255
                return PanopticMask(path, image, png, kinds, nothing, deep)
    return None


def _png_folders(path: Path) -> list[Path]:
    return [path.with_suffix(""), path.parent / "masks", path.parent / "annotations", path.parent]


def _image_folders(path: Path) -> list[Path]:
    """Where the images of `path` may be, in the order of COCO's, CVAT's and Roboflow's habits."""
    stem = path.stem
    for start in ("instances_", "panoptic_", "stuff_"):
        stem = stem.removeprefix(start)
    parents = [path.parent, path.parent.parent] if path.parent.name == "annotations" else [path.parent]
    folders = [
        folder
        for parent in parents
        for folder in (parent / stem, parent / "images" / stem, parent / stem / "images", parent / "images", parent)
    ]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
