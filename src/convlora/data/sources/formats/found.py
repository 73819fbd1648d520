"""What a reader finds, and what readers share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convlora.data.classes.class_table import ClassTable
from convlora.data.classes.classes_json import is_readable
from convlora.data.problem import Problem
from convlora.data.reading.colours import Colour
from convlora.data.reading.images import is_image_file
from convlora.data.reading.stored import ImageSource
from convlora.data.sample import Sample, unique_names
from convlora.data.sources.folder import SPLITS, likely_split, subfolders
from convlora.data.sources.listing import entries
from convlora.errors import InputError, quoted, shown, shown_list
from convlora.links import below
from convlora.untrusted import UnreadableError, read_json

ALL = "all"
BACKGROUND = "background"
_WIDE = 65535  # ignore value where 255 is a class
_MOST_FILES = 2_000_000  # that are looked at below a folder
_LARGEST_JSON = 1 << 30  # bytes


@dataclass(frozen=True)
class Reading:
    """What a user may say about a form.

    Args:
        suffix: What the stem of a mask has more than that of its image. None: one of the usual ones.
        instances: What numbered objects become: `"foreground"`, or `"border"` for inside and border.
    """

    suffix: str | None = None
    instances: str = "foreground"


@dataclass
class Found:
    """The samples of a data set in some form.

    Args:
        splits: By split, or of `"all"`.
        classes: The classes, if the form names them.
        problems: Problems with single files.
        notes: Sentences about decisions made on the way.
    """

    splits: dict[str, list[Sample]]
    classes: ClassTable | None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def classes_with_background(
    names: Iterable[str], where: object, colors: Sequence[Colour | None] | None = None
) -> tuple[ClassTable, dict[str, int]]:
    """A background and some classes of objects; a class that is called background is the background.

    Args:
        names: Names of the classes.
        where: The file they come from, for messages.
        colors: Colour of each class; used if all are there and differ.

    Returns:
        The classes, and the index by name.

    Raises:
        InputError: There is none, or a name holds control characters.
    """
    given = list(names)
    colour_of = dict(zip(given, colors or [], strict=False))
    unique = list(dict.fromkeys(given))
    for name in unique:
        if not is_readable(name) or not name.strip():
            raise InputError(f"{where} has the class {quoted(name)}, which is no readable name. Rename it.")
    own = [name for name in unique if name.strip().lower() in (BACKGROUND, "_background_", "__background__")]
    others = [name for name in unique if name not in own]
    if not others:
        raise InputError(f"{where} names no class but the background, so there is nothing to tell apart.")
    index = {**dict.fromkeys(own, 0), **{name: place for place, name in enumerate(others, start=1)}}
    drawn: list[Colour] = [(0, 0, 0)]
    drawn += [colour for name in others if (colour := colour_of.get(name)) is not None]
    usable = colors is not None and len(drawn) == len(others) + 1 == len(set(drawn))
    ignore = 255 if len(others) < 255 else _WIDE
    return ClassTable((BACKGROUND, *others), ignore, colors=tuple(drawn) if usable else None), index


def named_samples(pairs: Sequence[tuple[ImageSource, ImageSource]], root: Path) -> list[Sample]:
    """Samples with names of their own."""
    names = unique_names([Path(str(image)) for image, _ in pairs], root)
    return [Sample(image, mask, name) for (image, mask), name in zip(pairs, names, strict=True)]


def images_below(folder: Path) -> list[Path]:
    """All image files in a folder and its subfolders, sorted; links to folders are not followed."""
    return [path for path in files_below(folder) if is_image_file(path)]


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and its subfolders, sorted; links to folders are not followed.

    Raises:
        InputError: There are millions.
    """
    found = []
    for number, path in enumerate(below(folder)):
        if number > _MOST_FILES:
            raise InputError(f"{folder} holds more than {_MOST_FILES:,} files. Name the folder of the data set itself.")
        if not path.name.startswith((".", "__MACOSX")) and os.path.isfile(path):  # noqa: PTH113 - names too long
            found.append(path)
    return found


def split_folders(parent: Path) -> dict[str, Path]:
    """The folders in a folder that are called like a split, such as `valid` or `training`."""
    found: dict[str, Path] = {}
    for folder in subfolders(parent) if parent.is_dir() else []:
        split = likely_split(folder.name)
        if split and (split not in found or folder.name == split):
            found[split] = folder
    return {split: found[split] for split in SPLITS if split in found}


def listed_images(folder: Path) -> list[Path]:
    """The image files directly in a folder."""
    return [path for path in entries(folder) if is_image_file(path) and path.is_file()] if folder.is_dir() else []


def json_of(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return read_json(path, _LARGEST_JSON)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except UnreadableError as error:
        raise InputError(f"{path} is not read: {shown(error)}. Export it again.") from error


def counted(kind: str, files: Sequence[object], one: str, many: str, remedy: str, **more: str) -> list[Problem]:
    """One warning about some files: the first is named, the others are counted.

    Args:
        kind: Kind of the problem.
        files: The files, or what else is named.
        one: What is said of one, after its name.
        many: What is said of several, after their number.
        remedy: A sentence.
        **more: `split`.
    """
    if not files:
        return []
    what = f"{files[0]} {one}" if len(files) == 1 else f"{len(files):,} {many} (the first is {shown(files[0])})"
    return [Problem(kind, str(files[0]), f"{what}. {remedy}", "warning", more.get("split"))]


def listed_names(names: Sequence[object]) -> str:
    """Some names for a message."""
    return shown_list(names)
