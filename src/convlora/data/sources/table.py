"""Data sets listed in CSV files with the columns `image` and `label`."""

import csv
import io
import os
from pathlib import Path

from convlora.data.problem import Problem
from convlora.data.sample import Sample, unique_names
from convlora.data.sources.listing import find_written
from convlora.errors import InputError, shown, shown_list
from convlora.untrusted import UnreadableError, read_text

_LARGEST = 1 << 30  # bytes
_SPLIT_COLUMNS = ("split", "subset", "set", "partition")
_DELIMITERS = (",", ";", "\t")


def has_columns(path: Path, need_masks: bool = True) -> bool:
    """Whether a file is a CSV whose header has the columns that samples are read from."""
    if not path.is_file():
        return False
    try:
        header = _header(_text(path).partition("\n")[0])
    except InputError:
        return False
    return _required(need_masks) <= set(header[1])


def read_table(path: Path, need_masks: bool) -> tuple[list[Sample], list[Problem]]:
    """Reads one CSV file: comma, semicolon or tab between columns, UTF-8 with or without a byte order mark.

    Args:
        path: The file. Paths inside are absolute or relative to the folder it is in.
        need_masks: Whether the column `label` must be there and filled.

    Returns:
        The samples in the order of the rows, and a problem for each row that names no file or one that is missing.

    Raises:
        InputError: The file cannot be read as such a table.
    """
    text = _text(path)
    delimiter, header = _header(text.partition("\n")[0])
    missing = sorted(_required(need_masks) - set(header))
    if missing:
        found = shown_list([name for name in header if name]) or "none"
        raise InputError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {' and '.join(missing)} (found: {found}). "
            "Its first line must be image,label."
        )
    repeated = next((name for name in ("image", "label") if header.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"{path} has the column {repeated} more than once. Keep one of them.")
    problems: list[Problem] = []
    pairs: list[tuple[Path, Path | None]] = []
    lines: dict[Path, int] = {}
    split_column = next((name for name in _SPLIT_COLUMNS if name in header), None)
    splits: set[str] = set()
    images_of: dict[Path, set[Path]] = {}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        next(reader)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
            if split_column is not None:
                splits.add(cells.get(split_column, ""))
            where = f"{path} line {reader.line_num}"
            image = _file(cells.get("image", ""), "image", where, path, problems)
            mask = None
            if need_masks or cells.get("label"):
                mask = _file(cells.get("label", ""), "label", where, path, problems)
            if image is None or (mask is None and need_masks):
                continue
            if mask is not None and image.samefile(mask):
                message = f"{where} names {image} as image and as label. Name its mask as label."
                problems.append(Problem("missing-pair", str(image), message))
                continue
            if mask is not None:
                images_of.setdefault(mask, set()).add(image)
            if image in lines:
                message = f"{where} lists {image} again (first in line {lines[image]}). Remove one of the two rows."
                problems.append(Problem("duplicate-image", str(image), message, "warning"))
            lines.setdefault(image, reader.line_num)
            pairs.append((image, mask))
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not valid CSV ({error}). Correct the line.") from error
    problems += _shared_masks(path, images_of)
    splits.discard("")
    if len(splits) > 1:
        message = (
            f"{path} has the column {split_column} ({shown_list(sorted(splits))}), which is not used: all rows are "
            "taken for one set. Write one CSV per split (train.csv, val.csv, test.csv)."
        )
        problems.append(Problem("unused-column", str(path), message, "warning"))
    if not pairs and not problems:
        problems.append(Problem("empty-split", str(path), f"{path} lists no image. Add rows below its first line."))
    names = unique_names([image for image, _ in pairs], path.parent)
    return [Sample(image, mask, name) for (image, mask), name in zip(pairs, names, strict=True)], problems


def _shared_masks(path: Path, images_of: dict[Path, set[Path]]) -> list[Problem]:
    """Warns, once, of masks that are given to several images; one of nothing but background may be meant so."""
    shared = [(mask, len(images)) for mask, images in images_of.items() if len(images) > 1]
    if not shared:
        return []
    mask, count = shared[0]
    more = f" (and {len(shared) - 1:,} more mask{'s' if len(shared) > 2 else ''} to several)" if len(shared) > 1 else ""
    message = f"{path} gives the mask {mask} to {count:,} images{more}. Give each image its own mask."
    return [Problem("shared-mask", str(mask), message, "warning")]


def _required(need_masks: bool) -> set[str]:
    return {"image", "label"} if need_masks else {"image"}


def _text(path: Path) -> str:
    try:
        return read_text(path, _LARGEST)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text. Save it as CSV in UTF-8.") from error
    except UnreadableError as error:
        raise InputError(f"{path} is not read: {error}. Name a CSV file.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error


def _header(line: str) -> tuple[str, list[str]]:
    """The delimiter that yields the most known columns, and the column names in lower case."""

    def columns(delimiter: str) -> list[str]:
        return [cell.strip().strip('"').lower() for cell in line.strip().split(delimiter)]

    delimiter = max(_DELIMITERS, key=lambda candidate: len({"image", "label"} & set(columns(candidate))))
    return delimiter, columns(delimiter)


def _file(cell: str, column: str, where: str, table: Path, problems: list[Problem]) -> Path | None:
    """The file that a cell names, or `None` and a problem if it names none that exists."""
    if not cell:
        problems.append(Problem("missing-pair", str(table), f"{where} has no {column}. Fill it in or remove the row."))
        return None
    if "\n" in cell:
        message = f"{where} ends a cell that goes over several lines. Close the quote, or remove it."
        problems.append(Problem("missing-pair", str(table), message))
        return None
    found = find_written(table.parent, cell)  # an absolute cell replaces the folder
    if found is not None:
        return found
    path = table.parent / cell
    readable = table.parent / shown(cell)
    is_folder = os.path.isdir(path)  # noqa: PTH112 - as above
    message = f"{where} names {readable}, which {'is a folder' if is_folder else 'does not exist'}. "
    message += "Name a file." if is_folder else "Paths are relative to the CSV file or absolute."
    problems.append(Problem("missing-pair", str(path), message))
    return None
