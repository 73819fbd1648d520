"""The SAM that comes with the package."""

from __future__ import annotations

import os
from pathlib import Path

from convlora.paths import expanded

BUNDLED = {"tiny": Path(__file__).parent / "tiny"}


def resolve_bundled(source: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The folder of a bundled model if `source` is its name, else `source` itself.

    A folder of one's own with that name is meant by its path, such as `./tiny`.
    """
    return BUNDLED.get(str(source), source)


def absolute(name: str) -> str:
    """The absolute path of something on this disk; Hub ids and what comes with the package stay as they are."""
    if name in BUNDLED:
        return name
    path = expanded(name)
    return os.path.realpath(path) if os.path.exists(path) else name  # noqa: PTH110 - it may be too long a name
