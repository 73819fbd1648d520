"""Opening files where a pipe, a socket or a device may stand instead, at which a reader would wait for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, TypeVar

AnyPath = TypeVar("AnyPath", bound=Path | str)


class NotOrdinaryError(OSError):
    """A pipe, a socket or a device stands in place of a file."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(errno.EINVAL, "it is no ordinary file", str(path))


def ordinary(path: AnyPath) -> AnyPath:
    """The path, for libraries that open files themselves: they would wait at a pipe for ever.

    Raises:
        NotOrdinaryError: If a pipe, a socket or a device stands there. A missing file and a folder raise
            nothing.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - the path may be a text
    except OSError:
        return path
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotOrdinaryError(path)
    return path


def open_ordinary(path: Path | str, mode: str = "rb", **kwargs: Any) -> Any:
    """Opens a file, but no pipe, socket or device.

    Args:
        path: The file.
        mode: As for `open`.
        **kwargs: For `open`.

    Raises:
        OSError: If it cannot be opened.
        NotOrdinaryError: If it is no file.
    """
    given = kwargs.pop("opener", os.open)

    def without_waiting(name: str, flags: int) -> int:
        handle: int = given(name, flags | getattr(os, "O_NONBLOCK", 0))
        return handle

    try:
        file = open(path, mode, opener=without_waiting, **kwargs)  # noqa: SIM115 - for the caller's own block
    except OSError:
        ordinary(str(path))  # a pipe that nobody reads cannot be opened for writing
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotOrdinaryError(path)
    return file
