"""Something that reads a file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Reader(NamedTuple):
    """Something that reads a file.

    Attributes:
        name: What the file is called.
        seeds: Contents that are right.
        read: Reads the file.
    """

    name: str
    seeds: list[bytes]
    read: Callable[[Path], object]
