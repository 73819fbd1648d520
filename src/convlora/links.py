"""Links in run and output folders, and what else is no ordinary file there.

A folder that comes from elsewhere may hold a link of any name to anywhere. Whatever is written, removed or read again
in such a folder goes through here: nothing leads out of it. The folder itself may be a link, because its owner gave
its name.

Its owner may still put a link there while a command runs. There is no guard against that: whoever can do it can write
to where the link leads, too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convlora.errors import InputError

_JUNCTION = 0xA0000003  # the tag that Windows gives one


def is_link(path: Path) -> bool:
    """Whether a name is a symbolic link, or a junction of Windows, wherever it leads."""
    try:
        state = path.lstat()
    except OSError:
        return False
    return stat.S_ISLNK(state.st_mode) or getattr(state, "st_reparse_tag", 0) == _JUNCTION


def is_plain_file(path: Path) -> bool:
    """Whether a name is an ordinary file, and no link to one, no folder, no device and no pipe."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def below(folder: Path) -> Iterator[Path]:
    """Everything in a folder and its subfolders, folders before their content; links as themselves, never through them.

    Args:
        folder: The folder; nothing is in it if it is a link or does not exist.
    """
    folders = [folder]
    while folders:
        inner = folders.pop()
        if is_link(inner) or not inner.is_dir():
            continue
        for entry in sorted(inner.iterdir()):
            yield entry
            folders.append(entry)


def check_own(folder: Path, own: Callable[[str], bool]) -> None:
    """Checks before a run or output folder is written to that nothing of ours in it leads elsewhere, or is no file.

    Args:
        folder: The folder.
        own: Whether something that lies in it directly is ours, by its name; what is not is left alone.

    Raises:
        InputError: If there is a link, a pipe or a device.
    """
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if own(entry.name):
            for path in (entry, *below(entry)):
                _check(path)


def open_own(path: Path, mode: str) -> Any:
    """Opens a file in a run or output folder; text is UTF-8.

    Args:
        path: The file.
        mode: As of `open`; one that is opened for writing may have no second name (hard link) outside the folder.

    Raises:
        InputError: If it is a link, a pipe or a device.
        OSError: If it cannot be opened.
    """
    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=_opener)


def _opener(name: str, flags: int) -> int:
    path, later = Path(name), flags & os.O_TRUNC  # nothing is lost before it is known what was opened
    if not hasattr(os, "O_NOFOLLOW"):  # on Windows
        _check(path)
    # A pipe that nobody else has opened would be waited for.
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(name, flags & ~os.O_TRUNC | careful, 0o666)
    except OSError:
        _check(path)
        raise
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise _not_ours(path, "no ordinary file")
        if state.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR):
            raise _not_ours(path, "a link: its file has another name, too")
        if later:
            os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check(path: Path) -> None:
    if is_link(path):
        raise _not_ours(path, "a link")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise _not_ours(path, "no ordinary file")


def _not_ours(path: Path, what: str) -> InputError:
    return InputError(f"{path} is {what}, and this folder must lead nowhere else. Remove it, or choose another folder.")
