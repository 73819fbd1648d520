"""A folder is written to by one process at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from convlora.errors import InputError
from convlora.storage import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_TRIES = 100
# A folder of somebody else may hold a link of that name to anything, or a pipe, which would be waited for.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_HELD: set[int] = set()  # handles of this process


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, which is made if need be.

    The system lets go of it when the process ends, however it ends. Where it knows no such locks, there is none.

    Raises:
        InputError: If another process holds it, or the folder cannot be written to.
    """
    if folder.is_file():
        raise InputError(f"--output {folder} is a file. Give a folder.")
    made = not folder.exists()
    make_folder(folder)
    path = folder / LOCK
    handle = _take(path)
    _HELD.add(handle)
    try:
        yield
    finally:
        _HELD.discard(handle)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # before letting go: whoever waits for it then finds that it is gone
        os.close(handle)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # nothing came of it


def _take(path: Path) -> int:
    for _ in range(_TRIES):
        try:
            handle = os.open(path, _FLAGS, 0o666)
        except OSError as error:
            raise InputError(f"Cannot write into {path.parent}: {error.strerror}. Choose another --output.") from error
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = ""
            with contextlib.suppress(OSError):  # a pipe has nothing to say
                owner = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise InputError(
                f"Process {owner or '(unknown)'} is writing to {path.parent}. Wait until it has finished, or stop it."
            ) from None
        except OSError:
            pass  # a file system without locks
        if path.exists():
            with contextlib.suppress(OSError):  # the number is for the message only, and the disk may be full
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
            return handle
        os.close(handle)  # the file that was locked is gone: its owner has just finished
    raise InputError(f"Cannot lock {path.parent}: {path.name} keeps vanishing. Choose another --output.")


def _let_go_in_child() -> None:
    # A forked process, such as one that reads images, would hold the lock beyond the death of its parent.
    for handle in _HELD:
        with contextlib.suppress(OSError):
            os.close(handle)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
