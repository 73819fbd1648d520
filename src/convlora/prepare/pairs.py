"""Finding the images of a data set and the mask of each among the files of its archives."""

from __future__ import annotations

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

_SPLIT_TABLE = re.compile(r"(train|val|test)(?:_(\w[\w-]*))?\.csv")
_LARGEST_TABLE = 1 << 23  # bytes


class Member(NamedTuple):
    """A file of an archive; an image of it is a [`StoredImage`][convlora.data.stored.StoredImage]."""

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


def find_pairs(entry: Entry, bundles: list[Bundle]) -> tuple[list[Pair], int]:
    """The pairs of all splits, in the order of their names or tables.

    Returns:
        The pairs, and the number of images that have no mask.

    Raises:
        InputError: If the archives are not laid out as the catalogue says.
    """
    files = _Files(bundles)
    found, alone = _from_tables(entry, files) if entry.tables else _from_layout(entry, files)
    splits = {pair.split for pair in found}
    wanted = ("train", "test") if entry.tables else tuple(entry.layout)
    missing = [split for split in wanted if split not in splits]
    if missing:
        raise InputError(
            f"The files hold no pair of image and mask for {' and '.join(missing)} of {entry.name}. They are not those "
            f"of {entry.homepage}, or are laid out in another way."
        )
    return _named(found), alone


class _Files:
    """All files of several archives, by the last part of their names."""

    def __init__(self, bundles: list[Bundle]) -> None:
        self.members = {f"/{name.lstrip('/')}": Member(bundle, name) for bundle in bundles for name in bundle.names()}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.members:
            self._by_name[posixpath.basename(path)].append(path)

    def find(self, path: str) -> Member | None:
        """The file of that path, or the only one whose path ends like it."""
        path = posixpath.normpath(f"/{path.lstrip('/')}")
        if path in self.members:
            return self.members[path]
        ends = [known for known in self._by_name[posixpath.basename(path)] if known.endswith(path)]
        return self.members[ends[0]] if len(ends) == 1 else None


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
    """Gives each pair a name of its own within its split, made of harmless characters."""
    pairs: list[Pair] = []
    taken: dict[str, set[str]] = defaultdict(set)
    for one in found:
        stem = re.sub(r"[^\w.-]+", "_", posixpath.splitext(posixpath.basename(one.path))[0]).strip(".")
        stem = stem[:100].encode()[:180].decode(errors="ignore") or "image"  # names are limited in bytes
        stem = f"{one.group}_{stem}" if one.group else stem
        name, number = stem, 1
        while name.lower() in taken[one.split]:  # some file systems know no upper case
            number += 1
            name = f"{stem}_{number}"
        taken[one.split].add(name.lower())
        pairs.append(Pair(one.split, name, one.image, one.mask, one.group))
    return pairs
