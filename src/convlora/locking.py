"""A folder is written to by one process at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from convlora.errors import InputError
from convlora.links import open_own
from convlora.storage import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_TRIES = 1000  # each in vain means that another process has just finished
_HELD: set[int] = set()  # handles of this process


@contextlib.contextmanager
def only_one(folder: Path, name: str = LOCK, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a folder, which is made if need be.

    The system lets go of it when the process ends, however it ends. Where it knows no such locks, there is none.

    Args:
        folder: The folder.
        name: Of the lock, a hidden file in the folder while it is held.
        wait: Whether to wait for whoever holds it.

    Raises:
        InputError: If another process holds it and is not to be waited for, or the folder cannot be written to.
    """
    with _locked(folder, name, wait=wait) as handle, _removing(folder / name):
        with contextlib.suppress(OSError):  # the number is for the message only, and the disk may be full
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        yield


class Presence:
    """That of a process in a folder, see [`among_others`]."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Tells whether nobody else is there; if so, whoever comes has to wait meanwhile."""
        try:
            _flock(self._handle, "LOCK_EX", wait=False)
        except BlockingIOError:
            is_alone = False
        else:
            is_alone = True
        try:
            yield is_alone
        finally:
            _flock(self._handle, "LOCK_SH", wait=True)  # even a lock tried in vain took away the one before


@contextlib.contextmanager
def among_others(folder: Path, name: str) -> Iterator[Presence]:
    """Is in a folder, which is made if need be, together with other processes.

    Args:
        folder: The folder.
        name: Of a hidden file that is in the folder meanwhile; the last one takes it away.

    Raises:
        InputError: If the folder cannot be written to.
    """
    with _locked(folder, name, kind="LOCK_SH", wait=True) as handle:
        presence = Presence(handle)
        try:
            yield presence
        finally:
            with presence.alone() as is_alone, _removing(folder / name) if is_alone else contextlib.nullcontext():
                pass


@contextlib.contextmanager
def _locked(folder: Path, name: str, *, kind: str = "LOCK_EX", wait: bool) -> Iterator[int]:
    if folder.is_file():
        raise InputError(f"--output {folder} is a file. Give a folder.")
    made = not folder.exists()
    make_folder(folder)
    handle = _take(folder / name, kind, wait)
    _HELD.add(handle)
    try:
        yield handle
    finally:
        _HELD.discard(handle)
        os.close(handle)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # nothing came of it


@contextlib.contextmanager
def _removing(path: Path) -> Iterator[None]:
    """Takes a lock away before it is let go of: whoever waits for it then finds that it is gone."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _take(path: Path, kind: str, wait: bool) -> int:
    for _ in range(_TRIES):
        try:
            with open_own(path, "a+b") as file:
                handle = os.dup(file.fileno())
        except OSError as error:
            raise InputError(f"Cannot write into {path.parent}: {error.strerror}. Choose another --output.") from error
        try:
            _flock(handle, kind, wait)
        except BlockingIOError:
            owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
            os.close(handle)
            raise InputError(
                f"Process {owner or '(unknown)'} is writing to {path.parent}. Wait until it has finished, or stop it."
            ) from None
        if _is_there(handle, path):
            return handle
        os.close(handle)  # the file that was locked is gone: its owner has just finished
    raise InputError(f"Cannot lock {path.parent}: {path.name} keeps vanishing. Choose another --output.")


def _flock(handle: int, kind: str, wait: bool) -> None:
    """Takes a lock of a kind, where the system and the disk know locks.

    Raises:
        BlockingIOError: If others hold it, and are not to be waited for.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, getattr(fcntl, kind) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


def _is_there(handle: int, path: Path) -> bool:
    """Whether a name still stands for the file that was opened, and not for one that another process has made since."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def _let_go_in_child() -> None:
    # A forked process, such as one that reads images, would hold the lock beyond the death of its parent.
    for handle in _HELD:
        with contextlib.suppress(OSError):
            os.close(handle)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
