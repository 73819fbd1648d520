"""Finding the images of a data set and the mask of each among the files of its archives."""

from __future__ import annotations

import bisect
import csv
import fnmatch
import io
import posixpath
import re
from collections import defaultdict
from typing import NamedTuple

from convlora.errors import InputError
from convlora.prepare.bundles import Bundle
from convlora.prepare.catalogue import Entry
from convlora.prepare.names import Names, safe_stem, short

_SPLIT_TABLE = re.compile(r"(train|val|test)(?:_(\w[\w-]*))?\.csv")
_LARGEST_TABLE = 1 << 23  # bytes


class Member(NamedTuple):
    """A file of an archive; an image of it is a [`StoredImage`][convlora.data.reading.stored.StoredImage]."""

    bundle: Bundle
    name: str

    def __str__(self) -> str:
        return self.name

    def load(self) -> bytes:
        """Its content."""
        return self.bundle.read(self.name)


class Pair(NamedTuple):
    """An image and its mask.

    Attributes:
        split: `train`, `val` or `test`.
        stem: The name they get, one of its kind in the split.
        image: The image.
        mask: Its mask.
        group: The part of the split that is scored on its own, if there are parts.
    """

    split: str
    stem: str
    image: Member
    mask: Member
    group: str | None = None


class Pairs(NamedTuple):
    """All pairs of a data set.

    Attributes:
        pairs: In the order of their names or tables.
        alone: Number of images or table rows that lack an image or a mask.
        again: Number of table rows that name a pair again.
    """

    pairs: list[Pair]
    alone: int
    again: int


def find_pairs(entry: Entry, bundles: list[Bundle]) -> Pairs:
    """The pairs of all splits, each once in its split or part of it.

    Raises:
        InputError: If the archives are not laid out as the catalogue says.
    """
    files = _Files(bundles)
    found, alone = _from_tables(entry, files) if entry.tables else _from_layout(entry, files)
    once: dict[_Found, _Found] = {}
    for one in found:
        once.setdefault(one._replace(path=""), one)  # tables may spell its path in several ways
    splits = {pair.split for pair in found}
    wanted = ("train", "test") if entry.tables else tuple(entry.layout)
    missing = [split for split in wanted if split not in splits]
    if missing:
        raise InputError(
            f"The files hold no pair of image and mask for {' and '.join(missing)} of {entry.name}. They are not those "
            f"of {entry.homepage}, or are laid out in another way."
        )
    return Pairs(_named(list(once.values())), alone, len(found) - len(once))


class _Files:
    """All files of several archives, which can be found by the end of their paths."""

    def __init__(self, bundles: list[Bundle]) -> None:
        self.members = {f"/{name.lstrip('/')}": Member(bundle, name) for bundle in bundles for name in bundle.names()}
        self._backwards = sorted(path[::-1] for path in self.members)  # here paths of the same end are neighbours

    def find(self, path: str) -> Member | None:
        """The file of that path, or the only one whose path ends like it."""
        path = posixpath.normpath(f"/{path.lstrip('/')}")
        if path in self.members:
            return self.members[path]
        end = path[::-1]
        first = bisect.bisect_left(self._backwards, end)
        ends = [known for known in self._backwards[first : first + 2] if known.startswith(end)]
        return self.members[ends[0][::-1]] if len(ends) == 1 else None


class _Found(NamedTuple):
    split: str
    path: str
    image: Member
    mask: Member
    group: str | None


def _from_layout(entry: Entry, files: _Files) -> tuple[list[_Found], int]:
    found, alone = [], 0
    for split, layout in entry.layout.items():
        pattern = re.compile(fnmatch.translate(layout.images))
        for path in sorted(filter(pattern.fullmatch, files.members)):
            if posixpath.basename(path).startswith("._"):  # what macOS puts into archives
                continue
            folder, stem = posixpath.split(posixpath.splitext(path)[0])
            mask = files.find(layout.masks.format(folder=folder, stem=stem))
            if mask is None:
                alone += 1
            else:
                found.append(_Found(split, path, files.members[path], mask, None))
    return found, alone


def _from_tables(entry: Entry, files: _Files) -> tuple[list[_Found], int]:
    tables = [
        (path, matched)
        for path in sorted(files.members, key=lambda path: (path.count("/"), path))
        if (matched := _SPLIT_TABLE.fullmatch(posixpath.basename(path)))
    ]
    root = posixpath.dirname(tables[0][0]) if tables else ""
    tables = [(path, matched) for path, matched in tables if posixpath.dirname(path) == root]
    names = {posixpath.basename(path) for path, _ in tables}
    found, alone = [], 0
    for path, matched in tables:
        split, group = matched.groups()
        if group is not None and f"{split}.csv" in names:
            continue  # a part of what the table of the split lists anyway
        for image_name, mask_name in _rows(files.members[path], path):
            image = files.find(posixpath.join(root, image_name))
            mask = files.find(posixpath.join(root, mask_name))
            if image is None or mask is None:
                alone += 1
            else:
                found.append(_Found(split, image_name, image, mask, group))
    return found, alone


def _rows(table: Member, path: str) -> list[tuple[str, str]]:
    content = table.load()
    if len(content) > _LARGEST_TABLE:
        raise InputError(f"{path} has {len(content) / 2**20:.0f} MB. No such table is read.")
    try:
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = next(rows)
        image, label = header.index("image"), header.index("label")
        return [
            (row[image].replace("\\", "/"), row[label].replace("\\", "/"))
            for row in rows
            if len(row) > max(image, label) and row[image] and row[label]
        ]
    except (UnicodeDecodeError, csv.Error, StopIteration, ValueError) as error:
        raise InputError(
            f"{path} is not a table with the columns image,label. The archive is not the right one."
        ) from error


def _named(found: list[_Found]) -> list[Pair]:
    """Gives each pair a name of its own within its split, made of harmless characters, and each part one too."""
    pairs: list[Pair] = []
    names: dict[str, Names] = defaultdict(Names)
    parts: dict[str, Names] = defaultdict(Names)
    groups: dict[tuple[str, str | None], str | None] = {}
    for one in found:
        part = (one.split, one.group)
        if part not in groups:
            groups[part] = parts[one.split].new(short(one.group, 50)) if one.group else None
        group = groups[part]
        stem = safe_stem(posixpath.splitext(posixpath.basename(one.path))[0])
        name = names[one.split].new(f"{group}_{stem}" if group else stem)
        pairs.append(Pair(one.split, name, one.image, one.mask, group))
    return pairs
