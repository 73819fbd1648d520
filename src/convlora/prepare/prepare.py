"""From an entry of the catalogue to a data folder."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from convlora.data.reading.images import IMAGE_SUFFIXES, read_image_size
from convlora.data.sources.folder import SPLITS
from convlora.errors import InputError
from convlora.locking import only_one
from convlora.prepare.bundles import open_bundle
from convlora.prepare.catalogue import Entry, RemoteFile
from convlora.prepare.download import Progress, digest, fetch
from convlora.prepare.masks import convert_mask
from convlora.prepare.pairs import Pair, Pairs, find_pairs
from convlora.recipes.published import RECORD
from convlora.storage import replacing_folder
from convlora.untrusted import read_json


@dataclass(frozen=True)
class Prepared:
    """What was made.

    Attributes:
        folder: The data set.
        counts: Pairs by split.
        notes: What the user should know, as sentences.
        again: Whether it was there already.
    """

    folder: Path
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    again: bool = False


def prepare(
    entry: Entry,
    output: Path,
    *,
    given: Path | None = None,
    mirror: str | None = None,
    track: Callable[[Iterable[Any], str], Iterator[Any]] = lambda items, _: iter(items),
    transfer: Callable[[RemoteFile], Progress] | None = None,
) -> Prepared:
    """Fetches a data set and writes it as `{train,val,test}/{images,masks}/` with a classes.json.

    Archives are fetched into a folder beside `output`; those that have arrived are not fetched again. No archive ever
    decides where a file is written: each image and mask that the catalogue asks for gets a name of ours.

    Args:
        entry: The data set.
        output: The folder to write; it appears when it is complete.
        given: Archives that were fetched by hand: a file, or a folder with them or with what was in them.
        mirror: Address to fetch the files from, by their names, instead of their own.
        track: Wraps iterables to show progress.
        transfer: Makes a function that receives the bytes of a file that have arrived.

    Raises:
        InputError: If the folder is in use, a file is missing, damaged or not what was expected.
        RunError: If the connection fails.
    """
    output = output.absolute()
    if output == Path.cwd():
        raise InputError("--output is the folder you are in, which cannot be replaced. Name a folder inside it.")
    done = _already_there(entry, output)
    if done is not None:
        return done
    if given is None and not entry.files:
        raise InputError(
            f"{entry.name} is given out by its owners only: fetch it from {entry.homepage} and name the archive, or "
            "the folder it was unpacked to, with --from."
        )
    if given is not None:
        return _convert(entry, _given(entry, given), output, track, is_folder=given.is_dir())
    downloads = output.with_name(f"{output.name}.download")
    with only_one(downloads):
        paths = _fetched(entry, downloads, mirror, transfer)
        try:
            made = _convert(entry, paths, output, track)
        except InputError:
            for path, file in zip(paths, entry.files, strict=True):
                if file.checksum is None:  # it may not be the right file at all
                    path.unlink(missing_ok=True)
            raise
    shutil.rmtree(downloads, ignore_errors=True)
    return made


def _convert(
    entry: Entry,
    paths: list[Path],
    output: Path,
    track: Callable[[Iterable[Any], str], Iterator[Any]],
    is_folder: bool = False,
) -> Prepared:
    record = [] if is_folder and paths[0].is_dir() else _record(entry, paths, track)
    found = find_pairs(entry, [open_bundle(path) for path in paths])
    pairs = found.pairs
    notes = [*_unchecked(entry, record), *_miscounted(entry, found)]
    with replacing_folder(output) as folder:
        _write(entry, pairs, folder, track)
        about = {"name": entry.name, "title": entry.title, "homepage": entry.homepage, "licence": entry.licence}
        (folder / RECORD).write_text(json.dumps({**about, "files": record}, indent=2) + "\n", encoding="utf-8")
    return Prepared(output, _counts(pairs), tuple(notes))


def _already_there(entry: Entry, output: Path) -> Prepared | None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    try:
        name = read_json(output / RECORD)["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    if name != entry.name:
        raise InputError(f"{output} exists and holds something else. Choose another --output.")
    images = {split: output / split / "images" for split in SPLITS}
    counts = {split: sum(1 for _ in folder.iterdir()) for split, folder in images.items() if folder.is_dir()}
    return Prepared(output, counts, again=True)


def _given(entry: Entry, given: Path) -> list[Path]:
    """The archives among what was fetched by hand, checked; else the folder itself."""
    if not given.exists():
        raise InputError(f"{given} does not exist. Give --from the archive or the folder it was unpacked to.")
    if given.is_file():
        if len(entry.files) > 1:
            raise InputError(f"{entry.name} consists of {len(entry.files)} files. Give --from the folder they are in.")
        return [_checked(given, entry.files[0] if entry.files else None)]
    there = [given / file.name for file in entry.files]
    if there and all(path.is_file() for path in there):
        return [_checked(path, file) for path, file in zip(there, entry.files, strict=True)]
    missing = [path.name for path in there if not path.is_file()]
    if there and len(missing) < len(there):
        raise InputError(f"{given} lacks {', '.join(missing)} of {entry.name}. Fetch the missing files too.")
    archives = sorted(given.glob("*.zip"))
    return archives or [given]


def _checked(path: Path, file: RemoteFile | None) -> Path:
    if file is not None and file.checksum is not None:
        kind, _, wanted = file.checksum.partition(":")
        found = digest(path, kind)
        if found != wanted:
            raise InputError(
                f"{path} has the {kind} {found}, but {wanted} was expected: it is damaged, or not {file.name}. "
                "Fetch it again."
            )
    return path


def _fetched(
    entry: Entry, downloads: Path, mirror: str | None, transfer: Callable[[RemoteFile], Progress] | None
) -> list[Path]:
    paths = []
    for file in entry.files:
        place = file if mirror is None else RemoteFile(f"{mirror.rstrip('/')}/{file.name}", file.checksum)
        paths.append(fetch(place, downloads, progress=None if transfer is None else transfer(place)))
    return paths


def _record(
    entry: Entry, paths: list[Path], track: Callable[[Iterable[Any], str], Iterator[Any]]
) -> list[dict[str, Any]]:
    known = {file.name: file for file in entry.files}
    record = []
    for path in track(paths, "Taking checksums"):
        file = known.get(path.name)
        record.append(
            {
                "name": path.name,
                "url": None if file is None else file.url,
                "bytes": path.stat().st_size,
                "sha256": digest(path),
                "compared_with": None if file is None else file.checksum,
            }
        )
    return record


def _unchecked(entry: Entry, record: list[dict[str, Any]]) -> list[str]:
    names = [file["name"] for file in record if file["compared_with"] is None]
    if not names:
        return []
    return [
        f"No checksum is known for {', '.join(names)}, so nothing tells that this is the file of the publication. "
        f"Its SHA-256 is in {RECORD}."
    ]


def _miscounted(entry: Entry, found: Pairs) -> list[str]:
    notes = []
    if found.alone:
        notes.append(f"{found.alone} images or table rows without an image or a mask were left out.")
    if found.again:
        notes.append(f"{found.again} table rows that name a pair for the second time were left out.")
    for split, count in entry.counts.items():
        there = sum(pair.split == split for pair in found.pairs)
        if there != count:
            notes.append(f"The split {split} has {there} pairs; {count} are known of it.")
    return notes


def _counts(pairs: list[Pair]) -> dict[str, int]:
    found = Counter(pair.split for pair in pairs)
    return {split: found[split] for split in SPLITS if split in found}


def _write(entry: Entry, pairs: list[Pair], folder: Path, track: Callable[[Iterable[Any], str], Iterator[Any]]) -> None:
    for pair in track(pairs, "Writing pairs"):
        place = folder / pair.split
        for kind in ("images", "masks"):
            (place / kind).mkdir(parents=True, exist_ok=True)
        suffix = posixpath.splitext(pair.image.name)[1].lower()
        if suffix not in IMAGE_SUFFIXES:
            raise InputError(f"{pair.image.name} of {entry.name} is no image of a known format.")
        image = _Loaded(pair.image.name, pair.image.load())
        read_image_size(image)  # is it one?
        (place / "images" / f"{pair.stem}{suffix}").write_bytes(image.content)
        (place / "masks" / f"{pair.stem}.png").write_bytes(convert_mask(pair.mask, entry))
    text = json.dumps({"classes": list(entry.classes)}, indent=1) + "\n"
    (folder / "classes.json").write_text(text, encoding="utf-8")
    parts: dict[Path, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.group:
            parts[folder / f"{pair.split}_{pair.group}.csv"].append(pair)
    for path, part in parts.items():
        _write_part(path, part)


def _write_part(path: Path, pairs: list[Pair]) -> None:
    """A table of the part of a split that is published with scores of its own."""
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["image", "label"])
    for pair in pairs:
        suffix = posixpath.splitext(pair.image.name)[1].lower()
        writer.writerow([f"{pair.split}/images/{pair.stem}{suffix}", f"{pair.split}/masks/{pair.stem}.png"])
    path.write_text(rows.getvalue(), encoding="utf-8")


class _Loaded(NamedTuple):
    """An image that is in memory and still knows its name."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name

    def load(self) -> bytes:
        """The content."""
        return self.content
