"""Names of files that are safe on every system and differ from each other."""

from __future__ import annotations

import re

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names of devices on Windows


def safe_stem(stem: str) -> str:
    """A stem of harmless characters, short enough for every file system."""
    plain = short(re.sub(r"[^\w.-]+", "_", stem).strip(".")[:100], 180) or "image"
    return f"_{plain}" if _RESERVED.fullmatch(plain) else plain


def short(text: str, size: int) -> str:
    """Its beginning: names of files are limited in bytes, to 255."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


class Names:
    """Names that all differ, also for file systems that know no upper case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}  # numbers, so that they are not all tried again

    def new(self, wanted: str) -> str:
        """That name, or with a number behind it."""
        name, number = wanted, self._last.get(wanted.lower(), 1)
        while name.lower() in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name.lower())
        self._last[wanted.lower()] = number
        return name
