"""What lies beside the splits of a data set and is not used, although it looks as if it were meant to be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from convlora.data.problem import Problem
from convlora.data.sample import Sample
from convlora.data.sources.folder import SPLITS, holds_images, likely_split, subfolders
from convlora.data.sources.listing import entries
from convlora.data.sources.table import has_columns, read_table
from convlora.errors import InputError
from convlora.ordinary import open_ordinary
from convlora.paths import are_same_file


def unused_splits(root: Path, kind: str, splits: Mapping[str, Sequence[Sample]], need_masks: bool) -> list[Problem]:
    """Warns of folders and tables that hold images and are part of no split.

    Args:
        root: The folder of the data set.
        kind: What its splits were read from: `"folder"`, `"images"` or `"csv"`.
        splits: The samples that are used.
        need_masks: Whether a table must have the column `label`.

    Returns:
        A warning for each folder and table whose name is nearly that of a split, and one for all others together.
    """
    used = {Path(str(sample.image)) for samples in splits.values() for sample in samples}
    return [*_unused_folders(root, kind, used), *_unused_tables(root, kind, used, need_masks)]


def _unused_folders(root: Path, kind: str, used: set[Path]) -> list[Problem]:
    around = _folders_around(used)
    unused = []
    for folder in subfolders(root):
        # Of these it is said elsewhere what of them is used and why.
        told = kind == "folder" and any(_is_same(folder, root / split) for split in SPLITS)
        told |= kind == "csv" and (root / f"{folder.name}.csv").is_file()
        is_hidden = folder.name.startswith((".", "__"))
        if not (told or is_hidden) and around.isdisjoint((_plain(folder), folder.resolve())) and holds_images(folder):
            unused.append(folder)
    problems = []
    for folder, others in _by_name(unused):
        what = _what(folder, others, "folder")
        wanted = likely_split(folder.name)
        if kind == "csv":
            table = f"{wanted}.csv" if wanted else "train.csv, val.csv or test.csv"
            message = f"{what}, because there are tables. List its files in {table}, or leave them out."
        elif kind == "images":
            message = (
                f"{what}, because {root / 'images'} is taken for all of the data. To divide them, move images and "
                f"masks into {root / 'train'}, and rename {folder.name} to {wanted or 'val or test'}."
            )
        elif wanted and not (root / wanted).exists():
            message = f"{what}. Rename it to {wanted} if it is the {wanted} split."
        else:
            place = wanted or "train, val or test"
            message = f"{what}. Move its files into {place} if they are part of that split."
        problems.append(Problem("unused-folder", str(folder), message, "warning"))
    return problems


def _unused_tables(root: Path, kind: str, used: set[Path], need_masks: bool) -> list[Problem]:
    unused = [
        table
        for table in tables_in(root, need_masks)
        if not any(_is_same(table, root / f"{split}.csv") for split in SPLITS)
        and not _lists_only(table, used, need_masks)
    ]
    problems = []
    for table, others in _by_name(unused):
        what = _what(table, others, "table")
        wanted = likely_split(table.stem)
        if kind != "csv":
            message = (
                f"{what}, because there are folders of images and masks. Give {table} instead of {root} to use "
                "it, or write train.csv, val.csv and test.csv."
            )
        elif wanted and not (root / f"{wanted}.csv").exists():
            message = f"{what}. Rename it to {wanted}.csv if it is the {wanted} split."
        else:
            place = f"{wanted}.csv" if wanted else "train.csv, val.csv or test.csv"
            message = f"{what}. Put its rows into {place} if they are part of that split."
        problems.append(Problem("unused-file", str(table), message, "warning"))
    return problems


def tables_in(root: Path, need_masks: bool) -> list[Path]:
    """The CSV files of a folder that have the columns samples are read from."""
    tables = [path for path in entries(root) if path.suffix.lower() == ".csv" and not path.name.startswith(".")]
    return [path for path in tables if _names_images(path) and has_columns(path, need_masks)]


def _names_images(table: Path) -> bool:
    """Whether the first line of a file may be that of a list of images: other tables may be too long to be read."""
    if not table.is_file():
        return False
    try:
        with open_ordinary(table) as file:
            return b"image" in file.readline(1 << 16).lower()
    except OSError:
        return False


def _by_name(paths: Iterable[Path]) -> list[tuple[Path, int]]:
    """Each path that is named like a split, and the first of the others with their number: there may be hundreds."""
    named: list[Path] = []
    others: list[Path] = []
    for path in paths:
        (named if likely_split(path.stem if path.is_file() else path.name) else others).append(path)
    return [*((path, 0) for path in named), *((path, len(others) - 1) for path in others[:1])]


def _what(path: Path, others: int, noun: str) -> str:
    if not others:
        return f"{path} is not used"
    return f"{path} and {others} more {noun}{'s' if others > 1 else ''} in {path.parent} are not used"


def _folders_around(files: Iterable[Path]) -> set[Path]:
    """All folders that some files are in, directly or not, with links as they are written and followed."""
    around: set[Path] = set()
    for folder in {file.parent for file in files}:
        for path in (_plain(folder), folder.resolve()):
            around.update((path, *path.parents))
    return around


def _plain(path: Path) -> Path:
    """From the root and without `..`; links stay what they are."""
    return Path(os.path.normpath(path.absolute()))


def _lists_only(table: Path, used: set[Path], need_masks: bool) -> bool:
    """Whether a table is just another list of what is used, such as a part of a test split to be scored apart."""
    try:
        samples, problems = read_table(table, need_masks)
    except InputError:
        return False
    listed = {_plain(Path(str(sample.image))) for sample in samples}
    if not listed or any(problem.severity == "error" for problem in problems):
        return False
    return listed <= {_plain(image) for image in used}


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths are one file or folder, as `Val` and `val` are on some systems."""
    return path == other or are_same_file(path, other)
