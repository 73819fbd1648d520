"""What lies in the folders given and is not segmented."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from convlora.data.reading.images import IMAGE_SUFFIXES
from convlora.inference.files.shares import NAME
from convlora.paths import expanded

_WORLD_FILES = {f"{suffix[:2]}{suffix[-1]}w" for suffix in IMAGE_SUFFIXES} | {f"{suffix}w" for suffix in IMAGE_SUFFIXES}


def passed_over(patterns: Sequence[str], images: Sequence[Path], output: Path) -> str | None:
    """What to say if folders hold more than is segmented; None if they do not.

    Hidden files, results and what only goes with an image, such as its world file, are not spoken of.

    Args:
        patterns: Files, folders and patterns as they were given.
        images: What [`collect_images`][convlora.inference.files.plan.collect_images] made of them.
        output: Folder of the results.
    """
    taken = {image.absolute() for image in images}
    taken |= {folder for image in taken for folder in image.parents}  # subfolders may be given on their own
    given = {folder: None for folder in map(expanded, patterns) if os.path.isdir(folder)}  # noqa: PTH112
    left = [entry for folder in given for entry in sorted(folder.iterdir()) if entry.absolute() not in taken]
    left = [entry for entry in left if not _goes_without_saying(entry, output)]
    folders = [entry for entry in left if entry.is_dir()]
    files = [entry for entry in left if not entry.is_dir()]
    kinds = f" of other kinds than {', '.join(sorted(IMAGE_SUFFIXES))}"
    parts = [_counted(*what) for what in ((folders, "subfolder", ""), (files, "file", kinds)) if what[0]]
    if not parts:
        return None
    remedy = f" Name subfolders too, or a pattern such as '{glob.escape(str(folders[0]))}/*.png'." if folders else ""
    return f"Passed over: {' and '.join(parts)}.{remedy}"


def _counted(entries: Sequence[Path], noun: str, kinds: str) -> str:
    if len(entries) == 1:
        return f"1 {noun}{kinds} ({entries[0]})"
    return f"{len(entries)} {noun}s{kinds} (such as {entries[0]})"


def _goes_without_saying(entry: Path, output: Path) -> bool:
    if entry.name.startswith("."):
        return True
    if entry.is_dir():
        return entry.resolve() == output.resolve() or os.path.isfile(entry / NAME)  # noqa: PTH113 - a folder may be closed to us
    return entry.name == NAME or entry.suffix.lower() in _WORLD_FILES or entry.name.endswith(".aux.xml")
