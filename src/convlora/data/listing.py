"""The images of one folder, and what else in it looks as if it were meant to be used."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from convlora.data.images import is_image_file
from convlora.data.problem import Problem
from convlora.errors import InputError

# Of these a user may expect that they are read.
_OTHER_SUFFIXES = (
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".svg", ".pdf", ".psd", ".tga", ".ppm", ".pgm", ".npy", ".npz",
    ".dcm", ".nii", ".mha", ".nrrd", ".mat", ".raw", ".dng", ".cr2", ".nef", ".arw", ".jfif",
)  # fmt: skip


def list_images(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Lists the image files of a folder by stem; nothing is read.

    Letters with accents are written in two ways (macOS takes them apart), which are the same stem here.

    Args:
        folder: The folder.

    Returns:
        The files, sorted by name, and a problem for each that cannot be used.

    Raises:
        InputError: The folder may not be read.
    """
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    unused: list[Path] = []
    for path in entries(folder):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            message = f"{path} is a folder and is not used. Move its files into {folder}, or list them in a CSV file."
            problems.append(Problem("unused-folder", str(path), message, "warning"))
        elif not is_image_file(path):
            if path.suffix.lower() in _OTHER_SUFFIXES:
                unused.append(path)
        elif not _is_text(path.name):
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            message = f"{shown} has a name that is not UTF-8. Rename the file."
            problems.append(Problem("unreadable", shown, message))
        elif not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for links that lead nowhere
            problems.append(Problem("unreadable", str(path), _why_no_file(path)))
        else:
            stem = unicodedata.normalize("NFC", path.stem)
            if stem in files:
                message = f"{path} and {files[stem].name} in the same folder share a stem. Keep one of them."
                problems.append(Problem("duplicate-stem", str(path), message))
            else:
                files[stem] = path
    if unused:
        which = f"{unused[0]} is"
        if len(unused) > 1:
            which = f"{unused[0]} and {len(unused) - 1} other file{'s' if len(unused) > 2 else ''} there are"
        message = f"{which} in a format that is not read. Save as PNG, JPEG, TIFF, BMP or WebP."
        problems.append(Problem("unused-file", str(unused[0]), message, "warning"))
    return files, problems


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted.

    Raises:
        InputError: The folder may not be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}). Check its permissions.") from error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that Python smuggles through
        return False
    return True


def _why_no_file(path: Path) -> str:
    if path.is_symlink():
        target = path.readlink()
        return f"{path} is a link to {target}, where there is no file. Put the file there, or remove the link."
    return f"{path} is no regular file. Remove it."
