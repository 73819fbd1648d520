"""Listing images chunk by chunk, so that the first are segmented while others have not been listed yet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from convlora.data.reading.images import IMAGE_SUFFIXES, is_image_file
from convlora.errors import InputError, RunError
from convlora.inference.files.shares import NAME
from convlora.inference.fleet.places import (
    Entry,
    entries,
    has_wildcard,
    is_folder,
    is_remote,
    join,
    matches,
    split,
    state_of,
    stem,
)
from convlora.inference.fleet.work import Chunk
from convlora.paths import expanded

_LARGEST_MEAN, _FEW = 64, 32  # images in a chunk; chunks that a small folder is cut into at least
_LONGEST = 4  # times the mean

Found = tuple[str, str | None]  # name of an image, and its state


def chunks(given: Sequence[str], output: str, suffixes: Sequence[str]) -> Iterator[Chunk]:
    """All images that are meant, in chunks of about 64, fewer in small folders.

    A chunk ends behind an image whose name says so by its hash. So the chunks of a folder stay what they are where no
    images come or go.

    Args:
        given: Image files, folders and patterns, as paths or URIs.
        output: Folder of the results.
        suffixes: What the names of results end with behind the stem of an image, `""` for the semantic map.

    Yields:
        Chunks; the last one says that nothing can be listed any more, if that is so.
    """
    number, names = 0, _Names(output, suffixes)
    for one in given:
        notes: list[str] = []
        try:
            for folder, images in _folders(one, output, notes):
                mean = _mean(len(images))
                name, waiting = _digest(folder), Chunk(number, _digest(folder))
                for image, state in images:
                    problem = names.taken(image)
                    if problem is None:
                        waiting.images.append([image, state])
                    elif problem:
                        waiting.refused.append([image, problem])
                    digest = _digest(image)
                    if int(digest, 16) % mean == 0 or len(waiting.images) >= _LONGEST * mean:
                        yield waiting
                        number, name = number + 1, digest
                        waiting = Chunk(number, name)
                if waiting.images or waiting.refused:
                    yield waiting
                    number += 1
        except (InputError, RunError) as error:
            yield Chunk(number, "", fatal=str(error))
            return
        if notes:
            yield Chunk(number, "", notes=notes)
            number += 1


def _mean(images: int) -> int:
    """How many images a chunk has on average; a power of two, so that it seldom changes."""
    return int(min(_LARGEST_MEAN, 1 << max(0, (images // _FEW).bit_length() - 1)))


def _digest(name: str) -> str:
    return hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()


class _Names:
    """The names of results that are taken. Only a hash of each is kept."""

    def __init__(self, output: str, suffixes: Sequence[str]) -> None:
        self._output, self._suffixes = output, suffixes
        self._results: set[int] = set()
        self._images: set[int] = set()

    def taken(self, image: str) -> str | None:
        """Why an image is left out; `""` if it was listed before; None: it is not."""
        own = _short(image)
        if own in self._images:
            return ""
        self._images.add(own)
        stems = [stem(image) + suffix for suffix in self._suffixes]
        for one in stems:
            if _short(one) in self._results:
                return (
                    f"{image} would be written to {one} in {self._output}, where the result of another image goes. "
                    "Predict them into different folders."
                )
        self._results.update(map(_short, stems))
        return None


def _short(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big")


def _folders(one: str, output: str, notes: list[str]) -> Iterator[tuple[str, list[Found]]]:
    """The images of each folder that something given means."""
    if is_remote(one):
        yield from _remote(one, output, notes)
        return
    path = expanded(one)
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        yield str(path.parent), [(str(image), None) for image in _collected(one)]
        return
    try:
        with os.scandir(path) as scanned:
            found = sorted(Entry(entry.name, entry.is_dir(), "") for entry in scanned)
    except OSError as error:
        raise InputError(f"The folder {path} cannot be read ({error.strerror}). Check its permissions.") from error
    images = [(str(path / entry.name), None) for entry in found if _is_image(entry)]
    if not images:
        _collected(one)  # says what is wrong
    _note(str(path), [entry for entry in found if not _is_image(entry)], output, notes)
    yield str(path), list(images)


def _collected(one: str) -> list[Path]:
    from convlora.inference.files.plan import collect_images  # it brings PyTorch, which folders do not need

    return collect_images([one])


def _remote(one: str, output: str, notes: list[str]) -> Iterator[tuple[str, list[Found]]]:
    root, names = split(one)
    if any(map(has_wildcard, names)):
        yield from _matching(one)
        return
    if names and not one.endswith("/"):
        state = state_of(one)
        if state is not None:
            yield one.rpartition("/")[0], [(one, state)]
            return
    folder = join(root, "/".join(names)) if names else root
    if not is_folder(folder):
        raise InputError(f"{one} is no file or folder. Check the name.")
    found = entries(folder)
    images: list[Found] = [(join(folder, entry.name), entry.state) for entry in found if _is_image(entry)]
    if not images:
        raise InputError(
            f"The folder {one} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}). Name a folder that does, or a "
            f"pattern such as '{join(folder, '**/*.jpg')}'."
        )
    _note(folder, [entry for entry in found if not _is_image(entry)], output, notes)
    yield folder, images


def _matching(pattern: str) -> Iterator[tuple[str, list[Found]]]:
    """Matches of one folder at a time."""
    current, images, any_found = "", list[Found](), False
    for folder, entry in matches(pattern):
        if not _is_image(entry):
            continue
        if folder != current and images:
            yield current, images
            images = []
        current, any_found = folder, True
        images.append((join(folder, entry.name), entry.state))
    if not any_found:
        raise InputError(f"No image matches '{pattern}'. Check the pattern.")
    yield current, images


def _is_image(entry: Entry) -> bool:
    return not entry.is_folder and is_image_file(Path(entry.name))


def _note(folder: str, left: list[Entry], output: str, notes: list[str]) -> None:
    """Says what of a folder is passed over, but hidden files, results and world files."""
    usual = {f".{suffix[1]}{suffix[-1]}w" for suffix in IMAGE_SUFFIXES} | {f"{suffix}w" for suffix in IMAGE_SUFFIXES}
    own = output.rstrip("/")
    folders = [one for one in left if one.is_folder and one.name[0] != "." and join(folder, one.name) != own]
    files = [one for one in left if not one.is_folder and one.name[0] != "." and one.name != NAME]
    files = [one for one in files if Path(one.name).suffix.lower() not in usual and not one.name.endswith(".aux.xml")]
    said = []
    if folders:
        said.append(f"{len(folders):,} subfolder{'s' if len(folders) > 1 else ''} (such as {folders[0].name})")
    if files:
        kinds = f"of other kinds than {', '.join(sorted(IMAGE_SUFFIXES))} (such as {files[0].name})"
        said.append(f"{len(files):,} file{'s' if len(files) > 1 else ''} {kinds}")
    if said:
        notes.append(f"Passed over in {folder}: {' and '.join(said)}.")
