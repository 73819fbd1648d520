"""Folders and files that are here, or in an object store.

An object store is spoken to by pyarrow, which comes with the data sets' library. It finds the credentials where the
store's own tools do; none are taken, kept or shown here.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from convlora.errors import InputError, RunError, shown
from convlora.ordinary import open_ordinary

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

STORES = ("s3", "gs")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_PIECE = 8 << 20  # bytes that are copied at a time


def is_remote(name: str) -> bool:
    """Whether something is named by a URI, such as `s3://bucket/photos`."""
    return _SCHEME.match(name) is not None


class Entry(NamedTuple):
    """What a folder of an object store holds.

    Attributes:
        name: Within the folder.
        is_folder: Whether it is a folder.
        state: Text that changes when the file does.
    """

    name: str
    is_folder: bool
    state: str


def check_store(uri: str) -> None:
    """Checks how a URI begins.

    Raises:
        InputError: If it is of no store that can be read, or names no bucket.
    """
    scheme, rest = uri.split("://", 1)
    if scheme not in STORES:
        raise InputError(f"{shown(uri)} begins with '{shown(scheme, 20)}://'. Give a path, or a URI of s3:// or gs://.")
    if not rest.partition("/")[0]:
        raise InputError(f"{shown(uri)} names no bucket. Give {scheme}://BUCKET/FOLDER.")


def read_file(uri: str, path: Path) -> None:
    """Copies a file of an object store to here.

    Raises:
        OSError: If it is not there, or the store does not answer.
    """
    system, key = _opened(uri)
    with system.open_input_stream(key) as stream, open_ordinary(path, "wb") as file:
        shutil.copyfileobj(stream, file, _PIECE)


def read_content(uri: str) -> bytes | None:
    """A small file of an object store; None if it is not there.

    Raises:
        RunError: If the store does not answer.
    """
    system, key = _opened(uri)
    try:
        with system.open_input_stream(key) as stream:
            content: bytes = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreachable(uri, error) from error
    return content


def write_file(path: Path, uri: str) -> None:
    """Copies a file from here to an object store, where it appears whole or not at all.

    Raises:
        OSError: If that is refused, or the store does not answer.
    """
    system, key = _opened(uri)
    with open_ordinary(path) as file, system.open_output_stream(key) as stream:
        shutil.copyfileobj(file, stream, _PIECE)


def write_content(content: bytes, uri: str) -> None:
    """Writes a small file to an object store.

    Raises:
        RunError: If that is refused, or the store does not answer.
    """
    system, key = _opened(uri)
    try:
        with system.open_output_stream(key) as stream:
            stream.write(content)
    except OSError as error:
        raise _unreachable(uri, error) from error


def remove_folder(uri: str) -> None:
    """Removes a folder of an object store, if it is there."""
    system, key = _opened(uri)
    try:
        system.delete_dir(key)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreachable(uri, error) from error


def sizes(uris: list[str]) -> list[int | None]:
    """Sizes of files of one bucket in bytes; None for those that are not there."""
    if not uris:
        return []
    system, _ = _opened(uris[0])
    try:
        found = system.get_file_info([_key(uri) for uri in uris])
    except OSError as error:
        raise _unreachable(uris[0], error) from error
    return [info.size if info.is_file else None for info in found]


def is_folder(uri: str) -> bool:
    """Whether there is a folder of that name, which in an object store is one that holds something."""
    from pyarrow.fs import FileType

    system, key = _opened(uri)
    try:
        return bool(system.get_file_info(key).type == FileType.Directory)
    except OSError as error:
        raise _unreachable(uri, error) from error


def state_of(uri: str) -> str | None:
    """Text that changes when a file does; None if there is no such file."""
    system, key = _opened(uri)
    try:
        info = system.get_file_info(key)
    except OSError as error:
        raise _unreachable(uri, error) from error
    return _state(info) if info.is_file else None


def entries(uri: str) -> list[Entry]:
    """What a folder of an object store holds, sorted by name.

    pyarrow lists a folder as a whole, so that its names have to fit into memory.

    Raises:
        RunError: If the store does not answer.
    """
    from pyarrow.fs import FileSelector

    system, key = _opened(uri)
    try:
        found = system.get_file_info(FileSelector(key, allow_not_found=True))
    except OSError as error:
        raise _unreachable(uri, error) from error
    return sorted(Entry(info.base_name, not info.is_file, _state(info)) for info in found if info.base_name)


def matches(pattern: str) -> Iterator[tuple[str, Entry]]:
    """The files that a pattern means, with the folder of each; `*`, `?` and `[...]` stand for parts of one name.

    `**` stands for any number of folders. Folders are listed one after the other, as the files are asked for.
    """
    root, parts = split(pattern)
    yield from _matches(root, list(parts))


def _matches(folder: str, parts: list[str]) -> Iterator[tuple[str, Entry]]:
    first, *rest = parts
    if first == "**":
        yield from _matches(folder, rest or ["*"])
        for entry in entries(folder):
            if entry.is_folder:
                yield from _matches(join(folder, entry.name), parts)
    elif rest and not has_wildcard(first):
        yield from _matches(join(folder, first), rest)
    else:
        for entry in entries(folder):
            if not fnmatch.fnmatchcase(entry.name, first):
                continue
            if not rest and not entry.is_folder:
                yield folder, entry
            elif rest and entry.is_folder:
                yield from _matches(join(folder, entry.name), rest)


def has_wildcard(name: str) -> bool:
    """Whether a name is a pattern."""
    return any(sign in name for sign in "*?[")


def join(folder: str, name: str) -> str:
    """The URI of something in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def split(uri: str) -> tuple[str, tuple[str, ...]]:
    """The bucket of a URI, and the names below it."""
    scheme, rest = uri.split("://", 1)
    bucket, *names = rest.split("/")
    return f"{scheme}://{bucket}", tuple(name for name in names if name)


def stem(name: str) -> str:
    """Name of a file without its suffix."""
    return PurePosixPath(name).stem


def _key(uri: str) -> str:
    root, names = split(uri)
    return "/".join((root.split("://", 1)[1], *names))


def _opened(uri: str) -> tuple[FileSystem, str]:
    check_store(uri)
    return _system(split(uri)[0]), _key(uri)


@lru_cache(maxsize=32)
def _system(root: str) -> FileSystem:
    from pyarrow import fs

    scheme, bucket = root.split("://", 1)
    if scheme == "gs":
        return fs.GcsFileSystem()
    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        options = {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    if region or endpoint:
        options["region"] = region or "us-east-1"
    else:
        try:
            options["region"] = fs.resolve_s3_region(bucket)
        except OSError as error:
            raise _unreachable(root, error) from error
    return fs.S3FileSystem(**options)


def _state(info: Any) -> str:
    return f"{info.size}:{info.mtime_ns}"


def reason(error: OSError) -> str:
    """What a store said, in one line."""
    return shown(" ".join(str(error).split()), 300)


def _unreachable(uri: str, error: OSError) -> RunError:
    return RunError(
        f"{shown(uri)} cannot be used: {reason(error)}. Check its name, your credentials and the network, and go on "
        "with --resume."
    )
