"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of `~`; as it is where `~` only begins a name, as in `~draft.png`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no user of that name
        return Path(path)


def are_same_file(one: Path, other: Path) -> bool:
    """Whether two names stand for one file: by links, or by case on disks that ignore it."""
    try:
        return one.samefile(other)
    except OSError:  # one of them is missing, or a link that leads to itself
        return False
