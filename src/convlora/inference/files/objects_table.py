"""`objects.csv` beside predictions: the objects of all images."""

from __future__ import annotations

import csv
import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from convlora.errors import InputError, cell
from convlora.inference.files.pieces import read_piece
from convlora.links import is_link, open_own
from convlora.locking import only_one
from convlora.measuring.table import COLUMNS
from convlora.storage import replacing_file

NAME = "objects.csv"
HEADER = ("image", *COLUMNS)
_LOCK = ".objects.lock"
_DIGITS = {"row": ".3f", "column": ".3f", "perimeter_px": ".3f", "mean_probability": ".6f"}  # others: 12 that count
Lines = tuple[str, Iterable[Sequence[str]]]  # of one image


def check_table(output: Path) -> None:
    """Checks before a prediction that objects can be added to what is in a folder.

    Raises:
        InputError: If there is a file of that name which is none of ours.
    """
    with _opened(output / NAME):
        pass


def add_objects(output: Path, pieces: Sequence[Path]) -> None:
    """Writes the file, sorted by the names of the images; what stands there of other images stays.

    Only one image is in memory at a time.

    Args:
        output: The folder of the results.
        pieces: Pieces of each image, see `convlora.inference.files.pieces`.

    Raises:
        InputError: As [`check_table`]; or a piece is none of ours.
    """
    if not pieces:
        return
    with only_one(output, _LOCK, wait=True):
        named = sorted((cell(str(next(read_piece(piece))["image"])), piece) for piece in pieces)
        new = ((name, _lines(name, piece)) for name, piece in named)
        with _opened(output / NAME) as earlier, replacing_file(output / NAME) as temporary:
            kept = _without({_stem(name) for name, _ in named}, earlier)
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(HEADER)
                for _, lines in heapq.merge(kept, new, key=lambda one: one[0]):
                    writer.writerows(lines)


def _lines(name: str, piece: Path) -> Iterator[list[str]]:
    entries = read_piece(piece)
    next(entries)
    for entry in entries:
        yield [name, *(_text(column, entry[column]) for column in COLUMNS)]


def _text(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, _DIGITS.get(column, ".12g"))
    return cell(value) if isinstance(value, str) else str(value)


def _without(stems: Collection[str], lines: Iterable[Sequence[str]]) -> Iterator[Lines]:
    for name, group in groupby(lines, key=lambda line: line[0]):
        if _stem(name) not in stems:
            yield name, group


def _stem(name: str) -> str:
    """Under which results are known: a photo that is now a PNG replaces what was known of the JPEG."""
    return Path(name).stem


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[list[str]]]:
    """The lines of an earlier file below its header; none if there is none."""
    if not path.exists() and not is_link(path):
        yield iter(())
        return
    try:
        file = open_own(path, "r")
    except (OSError, InputError) as error:
        raise _not_ours(path) from error
    with file:
        lines = _checked(path, csv.reader(file))
        if tuple(next(lines, ())) != HEADER:
            raise _not_ours(path)
        yield lines


def _checked(path: Path, lines: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        for line in lines:
            if len(line) != len(HEADER):
                raise _not_ours(path)
            yield line
    except (csv.Error, UnicodeDecodeError) as error:
        raise _not_ours(path) from error


def _not_ours(path: Path) -> InputError:
    return InputError(f"{path} exists and was not made by convlora. Choose another --output.")
