"""Looking into zip archives: their files are unpacked into a folder of ours that is removed again."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from convlora.errors import InputError, shown
from convlora.ordinary import open_ordinary
from convlora.paths import expanded
from convlora.prepare.bundles import ZipBundle
from convlora.storage import make_folder

_MOST_FILES = 1_000_000
_LONGEST_NAME = 255  # bytes of each part of a path


@contextlib.contextmanager
def opened(source: Path, beside: Path) -> Iterator[Path]:
    """Yields the folder or file that a source is; of a zip archive a folder with its files, as long as it is needed.

    Args:
        source: What the user named.
        beside: The output; archives are unpacked next to it, where there is room for it anyway.

    Raises:
        InputError: It does not exist, or is an archive that is damaged, or not to be trusted.
    """
    source = expanded(source)
    if not source.exists():
        raise InputError(f"{source} does not exist. Give a folder, an annotation file or a zip archive.")
    if source.is_dir() or source.suffix.lower() != ".zip":
        yield source
        return
    make_folder(beside.parent)
    with tempfile.TemporaryDirectory(dir=beside.parent, prefix=f".{beside.name[:40]}.unpacked-") as name:
        folder = Path(name)
        try:
            _unpack(source, folder)
            yield _inner(folder)
        except InputError as error:  # messages name what the user knows
            raise InputError(
                str(error).replace(f"{folder}/", f"{source}/").replace(str(folder), str(source))
            ) from error


def _unpack(archive: Path, folder: Path) -> None:
    bundle = ZipBundle(archive, "Export it again, or unpack it and give the folder.")
    names = bundle.names()
    if len(names) > _MOST_FILES:
        raise InputError(f"{archive} holds {len(names):,} files, which is too many. Unpack it and give the folder.")
    for name in names:
        parts = PurePosixPath(name).parts
        if any(part.startswith("__MACOSX") or part == ".DS_Store" for part in parts):
            continue
        if not _is_harmless(name, parts):
            raise InputError(
                f"{archive} holds a file called '{shown(name)}', which leads out of the folder it is unpacked to, or "
                "cannot be written. The archive is not to be trusted; export it again."
            )
        target = folder.joinpath(*parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_ordinary(target, "xb") as file:
                file.write(bundle.read(name))
        except OSError as error:  # two files of one name, or a file where a folder has to be
            raise InputError(f"{shown(name)} of {archive} cannot be unpacked ({error.strerror or error}).") from error


def _is_harmless(name: str, parts: tuple[str, ...]) -> bool:
    if not parts or name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return False
    return all(part not in ("..", "/") and len(part.encode(errors="replace")) <= _LONGEST_NAME for part in parts)


def _inner(folder: Path) -> Path:
    """The folder itself, or the only one in it, as most archives have it."""
    while True:
        inside = list(folder.iterdir())
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        folder = inside[0]
