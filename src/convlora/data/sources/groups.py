"""Which images belong together, as `groups.csv` in a data set says."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from convlora.data.reading.stored import ImageSource
from convlora.data.reading.volumes.slices import VolumeSlice
from convlora.data.sample import Sample
from convlora.data.sources.opening import DataSource
from convlora.data.sources.volumes import volume_name
from convlora.errors import InputError, shown
from convlora.ordinary import open_ordinary
from convlora.untrusted import UnreadableError, read_text

GROUPS = "groups.csv"
_COLUMNS = ("image", "group")
_LARGEST = 1 << 30  # bytes
_DELIMITERS = (",", ";", "\t")


def read_groups(
    source: DataSource, listed: Mapping[str, Sequence[Sample]], left_out: Iterable[str] = ()
) -> dict[int, str]:
    """Reads `groups.csv`, which lies in the folder of a data set, or beside its table.

    An image is called by its path below that folder, or shorter where that is clear: by the name of its file, with or
    without the ending, or by the name of its sample. A volume is called like an image, and stands for all its slices.

    Args:
        source: The data set.
        listed: All samples by split.
        left_out: Paths of files that are not used. What the table says of them is passed over.

    Returns:
        The group of each image that has a row, by the `id` of its sample; empty without such a file.

    Raises:
        InputError: If the file cannot be read as such a table, or a row names no image, several images, or an image
            that another row gives to another group.
    """
    folder = source.root if source.root.is_dir() else source.root.parent
    path = folder / GROUPS
    if not source.root.exists() or not os.path.lexists(path):  # a dead link of that name is an error, not a file less
        return {}
    names = _names(folder, listed)
    unused = {name for one in left_out for name in (Path(one).stem, volume_name(Path(one)))}
    groups: dict[int, tuple[str, int]] = {}
    unknown: list[tuple[str, int]] = []
    for image, group, line in _rows(path):
        if not image or not group:
            raise InputError(f"{path} line {line} lacks the {'group' if image else 'image'}. Fill it in.")
        found = names.get(image.replace("\\", "/").removeprefix("./"), [])
        if len({str(_place(sample)) for sample in found}) > 1:
            raise InputError(
                f"{path} line {line} names {shown(image)}, which could be {len(found)} images ({found[0].image} and "
                f"others). Write the path below {folder}."
            )
        if not found:
            if unused.isdisjoint((Path(image).stem, volume_name(Path(image)))):
                unknown.append((image, line))
            continue
        for sample in found:  # a table may list an image twice
            before = groups.setdefault(id(sample), (group, line))
            if before[0] != group:
                raise InputError(
                    f"{path} gives {shown(image)} to the group {shown(before[0])} in line {before[1]} and to "
                    f"{shown(group)} in line {line}. Keep one of the two."
                )
    if unknown:
        image, line = unknown[0]
        more = f", and {len(unknown) - 1} more rows name none either" if len(unknown) > 1 else ""
        raise InputError(
            f"{path} line {line} names {shown(image)}, which is no image of {source.root}{more}. Correct or remove "
            "such rows."
        )
    return {sample: group for sample, (group, _) in groups.items()}


def write_groups(folder: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Writes `groups.csv`.

    Args:
        folder: Folder of the data set.
        rows: The place of each image below it, and its group; empty: it has none and gets no row.
    """
    with open_ordinary(folder / GROUPS, "x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(row for row in rows if row[1])


def _names(folder: Path, listed: Mapping[str, Sequence[Sample]]) -> dict[str, list[Sample]]:
    """The samples by everything that they may be called; a whole path wins over what is short."""
    whole: dict[str, list[Sample]] = {}
    short: dict[str, list[Sample]] = {}
    for split, samples in listed.items():
        for sample in samples:
            paths, names = {f"{split}/{sample.name}"}, {sample.name}
            place = _place(sample)
            if isinstance(place, Path):
                paths.add(place.as_posix())
                if place.is_relative_to(folder):
                    paths.add(place.relative_to(folder).as_posix())
                names |= {place.name, place.stem}
            if isinstance(sample.image, VolumeSlice):
                paths.add(f"{split}/{sample.image.volume}")
                names.add(sample.image.volume)
            for table, called in ((whole, paths), (short, names)):
                for name in called:
                    table.setdefault(name, []).append(sample)
    return {**short, **whole}


def _place(sample: Sample) -> ImageSource:
    """Where an image is; of a slice, where its volume is."""
    return sample.image.stored.path if isinstance(sample.image, VolumeSlice) else sample.image


def _rows(path: Path) -> Iterable[tuple[str, str, int]]:
    """Image, group and line of each row that is not empty."""
    try:
        text = read_text(path, _LARGEST)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text. Save it as CSV in UTF-8.") from error
    except UnreadableError as error:
        raise InputError(f"{path} is not read: {error}. Put a CSV file there, or remove it.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if any(header.count(column) != 1 for column in _COLUMNS):
            raise InputError(f"{path} needs the columns image and group. Write image,group into its first line.")
        places = [header.index(column) for column in _COLUMNS]
        for row in reader:
            if any(cell.strip() for cell in row):
                image, group = (row[place].strip() if place < len(row) else "" for place in places)
                yield image, group, reader.line_num
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not valid CSV ({error}). Correct the line.") from error
