"""The table of data sets that can be prepared: addresses, checksums, terms and layouts."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from typing import NamedTuple
from urllib.parse import urlsplit

import yaml

from convlora.errors import InputError


class RemoteFile(NamedTuple):
    """A file to fetch.

    Attributes:
        url: Its address.
        checksum: `md5:...` or `sha256:...`, if one is known.
    """

    url: str
    checksum: str | None = None

    @property
    def name(self) -> str:
        """The name it has on disk."""
        return urlsplit(self.url).path.rpartition("/")[2]


class SplitLayout(NamedTuple):
    """Where the pairs of a split lie in the archives.

    Attributes:
        images: Pattern of the images; `*` matches any characters, also across folders.
        masks: The mask of an image; `{folder}` and `{stem}` are those of the image.
    """

    images: str
    masks: str


@dataclass(frozen=True)
class Entry:
    """A data set of the catalogue.

    Attributes:
        name: What users type.
        title: What is segmented.
        homepage: Homepage of its owners.
        licence: What is known of its terms, as a sentence.
        classes: Their names, background first.
        masks: `"binary"`, `"index"` or `"means"`.
        means: With `"means"`, the mean over the channels that stands for each class.
        tables: Whether the archive lists its pairs in CSV files.
        layout: Else, where the pairs of each split are.
        counts: Number of pairs that each split is known to have.
        files: What to fetch; nothing if the owners ask for a download by hand.
    """

    name: str
    title: str
    homepage: str
    licence: str
    classes: tuple[str, ...]
    masks: str
    means: tuple[int, ...] = ()
    tables: bool = False
    layout: dict[str, SplitLayout] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    files: tuple[RemoteFile, ...] = ()


def read_catalogue() -> dict[str, Entry]:
    """All data sets, by name."""
    text = (resources.files(__package__) / "catalogue.yaml").read_text(encoding="utf-8")
    entries = {}
    for name, fields in yaml.safe_load(text).items():
        fields["classes"], fields["means"] = tuple(fields["classes"]), tuple(fields.get("means", ()))
        fields["layout"] = {split: SplitLayout(**layout) for split, layout in fields.get("layout", {}).items()}
        fields["files"] = tuple(RemoteFile(**file) for file in fields["files"])
        entries[name] = Entry(name=name, **fields)
    return entries


def find_entry(name: str) -> Entry:
    """One data set.

    Raises:
        InputError: If there is none of that name.
    """
    entries = read_catalogue()
    if name not in entries:
        raise InputError(f"There is no data set '{name}' to prepare. Choose one of: {', '.join(sorted(entries))}.")
    return entries[name]
