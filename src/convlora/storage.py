"""Writing files so that a reader sees the old content or the new, never half of it, even after a loss of power.

A rename may reach the disk before the content of the renamed file does, so that content is sent to the disk first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from convlora.errors import InputError
from convlora.links import is_link

_UNFINISHED = ".unfinished-"  # part of every temporary name, so that what a killed process left can be told
_LONGEST_STEM = 64  # bytes of it in temporary names: together they must not be longer than file names may be

SOFTWARE = "convlora"
"""What results name as their maker, so that only results of ours are written over."""


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path` to write to, and renames it to `path` when all went well.

    Raises:
        InputError: If the folder cannot be written to.
    """
    make_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{_short(path.stem)}{_UNFINISHED}", suffix=path.suffix
        )
    except OSError as error:
        raise InputError(f"Cannot write into {path.parent}: {error.strerror}. Choose another --output.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        send_to_disk(temporary)
        temporary.replace(path)
        send_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path` to fill, and replaces `path` with it when all went well.

    Raises:
        InputError: If `path` is a link.
    """
    _refuse_link(path)
    make_folder(path.parent)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{_short(path.name)}{_UNFINISHED}"))
    try:
        yield temporary
        mask = _umask()
        temporary.chmod(0o777 & ~mask)
        for written in temporary.rglob("*"):  # safetensors writes files that only their owner may read
            written.chmod((0o777 if written.is_dir() else 0o666) & ~mask)
        swap_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def swap_folder(new: Path, path: Path) -> None:
    """Sends the finished folder `new` to the disk and renames it to `path`, taking away what was there.

    No system call exchanges two folders everywhere, so there is a moment without `path`; [`recover_folder`] mends what
    a process that died in it leaves behind.

    Raises:
        InputError: If one of them is a link.
    """
    _refuse_link(new)
    _refuse_link(path)
    for written in (*new.rglob("*"), new):
        send_to_disk(written)
    old = old_folder(path)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    new.rename(path)
    send_to_disk(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_link(folder: Path) -> None:
    if is_link(folder):
        raise InputError(f"{folder} is a link, which no folder can replace. Remove it, or choose another --output.")


def send_to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk.

    Not every system can do that with folders, or lets everybody do it; when their names get there is then left to it.
    """
    is_folder = path.is_dir()
    with contextlib.suppress(*[OSError] if is_folder else []):
        # Windows syncs only what may be written to; elsewhere the file may be write-protected.
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path, stems: Collection[str] | None = None) -> None:
    """Removes what processes that were killed while writing left behind.

    Args:
        folder: Where they wrote.
        stems: Names without suffix of what may be removed; nobody else may be writing it. Default: everything.
    """
    short = None if stems is None else {_short(stem) for stem in stems}
    for left_behind in folder.glob(f".*{_UNFINISHED}*"):
        if short is not None and left_behind.name[1:].rpartition(_UNFINISHED)[0] not in short:
            continue
        if left_behind.is_dir() and not is_link(left_behind):
            shutil.rmtree(left_behind, ignore_errors=True)
        else:
            left_behind.unlink(missing_ok=True)


def is_unfinished(name: str) -> bool:
    """Whether something is called like what is being written."""
    return name.startswith(".") and _UNFINISHED in name


def _short(stem: str) -> str:
    """A stem that fits into a temporary name; different stems stay different."""
    if len(os.fsencode(stem)) <= _LONGEST_STEM:
        return stem
    return hashlib.blake2b(os.fsencode(stem), digest_size=_LONGEST_STEM // 2).hexdigest()


def recover_folder(path: Path) -> None:
    """Brings back the folder that [`swap_folder`] was about to replace when its process died."""
    old = old_folder(path)
    if old.exists() and not path.exists():
        old.rename(path)


def forget_old_folder(path: Path) -> None:
    """Removes what [`swap_folder`] had replaced when its process died; nobody else may be replacing it."""
    if path.exists():
        shutil.rmtree(old_folder(path), ignore_errors=True)


def old_folder(path: Path) -> Path:
    """Where [`swap_folder`] keeps what it is about to replace."""
    return path.with_name(f".{path.name}.old")


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all; numbers that are not finite, which JSON has not, become null."""
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Nested lists and dictionaries with None in place of infinities and nan."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return value


def make_folder(path: Path) -> Path:
    """Makes a folder and its parents.

    Raises:
        InputError: If that is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder {path}: {error.strerror}. Choose another --output.") from error
    return path


def _umask() -> int:
    # There is no way to read it but to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
