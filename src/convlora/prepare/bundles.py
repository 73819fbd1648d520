"""The files of archives and folders, read without ever letting them say where something is written."""

from __future__ import annotations

import contextlib
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from convlora.errors import InputError, shown
from convlora.ordinary import open_ordinary, ordinary
from convlora.untrusted import read_bytes

LARGEST_MEMBER = 1 << 27  # bytes; the largest photographs of these sets would have 90 MB without any compression
_ALWAYS_READ = 1 << 26  # bytes of an archive, however small it is
_MOST_TIMES = 20  # its size; images are compressed already, so that archives of them unpack to little more
_CHUNK = 1 << 20


class Bundle(Protocol):
    """Files by name, with forward slashes."""

    def names(self) -> list[str]:
        """All files that are really files."""

    def read(self, name: str) -> bytes:
        """The content of one."""


class _Budget:
    """What may be read of a bundle in all, or a small archive could fill a disk.

    Args:
        path: Path of the bundle.
        size: Its size in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._left = self._all = _ALWAYS_READ + _MOST_TIMES * size

    def spend(self, size: int) -> None:
        """Takes note of what is about to be read."""
        self._left -= size
        if self._left < 0:
            raise InputError(
                f"{self._path} has {self._size / 2**20:.1f} MB, but more than {self._all >> 20} MB would be read from "
                "it. It is not to be trusted; fetch it from the owners of the data."
            )


class ZipBundle:
    """A zip archive.

    Args:
        path: The file.
        remedy: What to do if it is none.

    Raises:
        InputError: If it is no zip archive, or a damaged one.
    """

    def __init__(self, path: Path, remedy: str = "Fetch it again, or give another file with --from.") -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(ordinary(path))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:  # the last: a newer format
            raise InputError(f"{path} {_what_it_is(path)}. {remedy}") from error
        self._budget = _Budget(path, path.stat().st_size)
        self._members = {
            member.filename.replace("\\", "/"): member
            for member in self._archive.infolist()
            if member.filename and not member.is_dir() and not stat.S_ISLNK(member.external_attr >> 16)
        }

    def names(self) -> list[str]:
        """All members but folders and links."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            InputError: If it is damaged, encrypted, or larger than it says or than any image is, or if more has been
                read by now than an archive of this size holds.
        """
        member = self._members[name]
        if member.file_size > LARGEST_MEMBER:
            raise InputError(f"{name} in {self.path} would take {member.file_size >> 20} MB. No such image is read.")
        self._budget.spend(member.file_size)
        try:
            with self._archive.open(member) as stream:
                return b"".join(_limited(stream, member.file_size, name))
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            struct.error,
            EOFError,
            OSError,
            RuntimeError,  # encrypted
            NotImplementedError,  # a way of compression that zipfile does not know
            ValueError,
        ) as error:
            if isinstance(error, InputError):
                raise
            reason = (
                "is encrypted" if "encrypted" in str(error) else f"is damaged ({shown(error) or 'it ends too early'})"
            )
            raise InputError(f"{name} in {self.path} {reason}. Fetch the archive again.") from error


class FolderBundle:
    """An archive that was unpacked by hand.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        root = path.resolve()
        self._files = {
            file.relative_to(path).as_posix(): file
            for file in sorted(path.rglob("*"))
            if file.is_file() and file.resolve().is_relative_to(root)  # links may not lead outside
        }
        self._budget = _Budget(path, sum(file.stat().st_size for file in self._files.values()))

    def names(self) -> list[str]:
        """All files."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            InputError: If it cannot be read, or more has been read by now than the folder holds.
        """
        path = self._files[name]
        try:
            size = path.stat().st_size
            if size > LARGEST_MEMBER:
                raise InputError(f"{path} has {size >> 20} MB. No such image is read.")
            self._budget.spend(size)
            return read_bytes(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error


def open_bundle(path: Path) -> Bundle:
    """A zip archive or a folder.

    Raises:
        InputError: If it is neither.
    """
    return FolderBundle(path) if path.is_dir() else ZipBundle(path)


def _limited(stream: IO[bytes], size: int, name: str) -> Iterator[bytes]:
    """Chunks of a stream that must not hold more than it declared."""
    seen = 0
    while chunk := stream.read(_CHUNK):
        seen += len(chunk)
        if seen > size:
            raise InputError(f"{name} is larger than its archive says. The archive is not to be trusted.")
        yield chunk


def _what_it_is(path: Path) -> str:
    with contextlib.suppress(OSError):
        with open_ordinary(path) as stream:
            start = stream.read(512).lstrip().lower()
        if start.startswith((b"<!doctype", b"<html")):
            return "is a web page and no archive (a page that asks for a login or a click, perhaps)"
        if start.startswith(b"pk"):
            return "is a damaged or incomplete zip archive"
    return "is no zip archive"
