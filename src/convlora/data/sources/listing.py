"""The images of one folder, and what else in it looks as if it were meant to be used."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection
from pathlib import Path

from convlora.data.problem import Problem, Severity
from convlora.data.reading.images import is_array_file, is_image_file
from convlora.errors import InputError, shown_list

# Of these a user may expect that they are read.
_OTHER_SUFFIXES = (
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".svg", ".pdf", ".psd", ".tga", ".ppm", ".pgm", ".npy", ".npz",
    ".dcm", ".nii", ".mha", ".nrrd", ".mat", ".raw", ".dng", ".cr2", ".nef", ".arw", ".jfif", ".jxl", ".exr", ".hdr",
    ".svs", ".ndpi", ".mrxs", ".scn", ".vsi", ".bif", ".czi", ".lif", ".nd2", ".h5", ".hdf5", ".zarr",
)  # fmt: skip
_NO_IMAGES = ("thumbs.db", "desktop.ini", "readme", "license", "licence", "makefile", "md5sums", "sha256sums")


def list_images(folder: Path, skip: Collection[Path] = ()) -> tuple[dict[str, Path], list[Problem]]:
    """Lists the image files of a folder by stem; nothing is read.

    Letters with accents are written in two ways (macOS takes them apart), which are the same stem here.

    Args:
        folder: The folder.
        skip: What in it is used otherwise.

    Returns:
        The files, sorted by name, and a problem for each that cannot be used.

    Raises:
        InputError: The folder may not be read.
    """
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    unused: list[Path] = []
    strange: list[Path] = []
    found = entries(folder)
    # Arrays beside images are something else, such as features of them.
    takes_arrays = not any(map(is_image_file, found))
    for path in found:
        if path in skip or path.name.startswith(".") or path.name.lower() in _NO_IMAGES:
            continue
        if path.is_dir():
            message = f"{path} is a folder and is not used. Move its files into {folder}, or list them in a CSV file."
            problems.append(Problem("unused-folder", str(path), message, "warning"))
        elif not (is_image_file(path) or (takes_arrays and is_array_file(path))):
            (unused if path.suffix.lower() in ("", *_OTHER_SUFFIXES) else strange).append(path)
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
    unused += [] if files or unused else strange
    if unused:
        problems.append(_not_read(unused, "warning" if files else "error"))
    return files, problems


def _not_read(paths: list[Path], severity: Severity) -> Problem:
    """Says which files are not read, once for a folder; an error where there are no others."""
    first = os.fsencode(paths[0]).decode("utf-8", "backslashreplace")
    which = f"{first} is"
    if len(paths) > 1:
        which = f"{first} and {len(paths) - 1} other file{'s' if len(paths) > 2 else ''} there are"
    endings = shown_list(sorted({path.suffix.lower() or "no ending" for path in paths}))
    message = f"{which} in a format that is not read ({endings}). Save as PNG, JPEG, TIFF, BMP or WebP"
    message += ", with that ending." if "no ending" in endings else "."
    return Problem("unused-file", first, message, severity)


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted.

    Raises:
        InputError: The folder may not be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}). Check its permissions.") from error


def find_written(folder: Path, written: str) -> Path | None:
    """The file that a table or annotation names, or None if there is none.

    Names come from Windows, with backslashes, and from systems that write letters with accents in the other way.

    Args:
        folder: What the name is relative to, unless it is absolute.
        written: The name.
    """
    for name in dict.fromkeys((written, written.replace("\\", "/"))):
        for spelt in dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))):
            path = folder / spelt
            if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for names that are too long
                return path
    return None


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
