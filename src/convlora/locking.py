"""A folder is written to by one process at a time; files that are locked, by the library filelock."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from convlora.errors import InputError
from convlora.links import check_own, open_own
from convlora.storage import make_folder
from convlora.untrusted import read_text

LOCK = ".lock"
_MOMENT = 0.2  # seconds in which a process that has just finished lets go
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # what disks without locks answer


@contextlib.contextmanager
def only_one(folder: Path, name: str = LOCK, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a folder, which is made if need be.

    The system releases it when the process ends, however it ends. Where the disk knows no locks, there is none.

    Args:
        folder: The folder.
        name: Name of the lock, a hidden file in the folder while it is held.
        wait: Whether to wait for the process that holds it.

    Raises:
        InputError: If another process holds it and is not to be waited for, or the folder cannot be written to.
    """
    with _folder(folder), _held(folder / name, wait=wait):
        with contextlib.suppress(OSError), open_own(folder / name, "w") as file:  # for the message; a disk may be full
            file.write(f"{os.getpid()}\n")
        yield


class Presence:
    """That of a process in a folder, see [`among_others`]."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._own = f"{name}-{uuid.uuid4().hex}"

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Tells whether nobody else is there; others that come have to wait meanwhile."""
        with _held(self._folder / self._name, wait=True):
            yield not any(self._is_there(path) for path in self._folder.glob(f"{self._name}-*"))

    def _is_there(self, path: Path) -> bool:
        """Whether another process is alive that has left a file; the file of one that was killed is removed."""
        if path.name == self._own:
            return False
        try:
            with _held(path, wait=False):
                return False
        except InputError:
            return True


@contextlib.contextmanager
def among_others(folder: Path, name: str) -> Iterator[Presence]:
    """Is in a folder, which is made if need be, together with other processes.

    Args:
        folder: The folder.
        name: How the names of hidden files begin that are in the folder meanwhile.

    Raises:
        InputError: If the folder cannot be written to.
    """
    with _folder(folder):
        presence = Presence(folder, name)
        with contextlib.ExitStack() as stack:
            with _held(folder / name, wait=True):
                stack.enter_context(_held(folder / presence._own, wait=True))
            yield presence


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Makes a folder if need be, and removes it again if nothing came of it."""
    if folder.is_file():
        raise InputError(f"--output {folder} is a file. Give a folder.")
    made = not folder.exists()
    make_folder(folder)
    try:
        yield
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _held(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds the lock of a file, which is there meanwhile."""
    check_own(path.parent, path.name.__eq__)
    lock = _acquired(path, wait)
    try:
        yield
    finally:
        if lock is not None:
            # It goes before the lock is released: a process that waits finds that it is gone, and makes a new one.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            lock.release()


def _acquired(path: Path, wait: bool) -> BaseFileLock | None:
    """The lock of a file, held; None on a disk without locks."""
    # A soft lock, a file that is there or not, would outlive a process that is killed.
    lock = FileLock(path, timeout=-1 if wait else _MOMENT, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{_owner(path)} is writing to {path.parent}. Wait until it has finished, or stop it."
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise InputError(f"Cannot write into {path.parent}: {error.strerror}. Choose another --output.") from error
    return lock


def _owner(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        number = read_text(path, largest=32).strip()
        if number.isdigit():
            return f"Process {number}"
    return "Another process"
