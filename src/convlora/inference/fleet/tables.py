"""The files of all images, `shares.json` and `objects.csv`, beside results in an object store.

They are copied to here, checked or added to as in any folder, and copied back. Two predictions that end in one folder
of an object store at the same moment may lose each other's lines.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convlora.errors import InputError, RunError
from convlora.inference.files import objects_table, shares
from convlora.inference.fleet.places import entries, is_folder, is_remote, join, read_content, reason, write_file
from convlora.inference.fleet.work import ACCOUNT

_FILES = (shares.NAME, objects_table.NAME)


@contextmanager
def tables_of(output: str) -> Iterator[Path]:
    """A folder here with the files of all images.

    Args:
        output: Folder of the results, a path or a URI.

    Yields:
        The folder itself if it is here, else a copy of those files.
    """
    if not is_remote(output):
        yield Path(output)
        return
    with tempfile.TemporaryDirectory(prefix="convlora-") as name:
        folder = Path(name)
        for one in _FILES:
            content = read_content(join(output, one))
            if content is not None:
                (folder / one).write_bytes(content)
        try:
            yield folder
        except InputError as error:
            raise InputError(str(error).replace(str(folder), output)) from error


def send_tables(folder: Path, output: str) -> None:
    """Copies them back, if they were copied.

    Raises:
        RunError: If the object store refuses them.
    """
    if not is_remote(output):
        return
    for name in _FILES:
        if (folder / name).exists():
            try:
                write_file(folder / name, join(output, name))
            except OSError as error:
                raise RunError(
                    f"{join(output, name)} could not be written: {reason(error)}. Go on with --resume."
                ) from error


def check_output(output: str) -> None:
    """Checks that a folder of an object store is empty or holds results: nothing else may be written over.

    Raises:
        InputError: If it holds something else.
    """
    if not is_folder(output):
        return
    if any(read_content(join(output, name)) is not None for name in _FILES) or is_folder(join(output, ACCOUNT)):
        return
    if not entries(output):  # only a sign that there is a folder
        return
    raise InputError(f"{output} is not empty, and holds no results of convlora. Choose another --output.")
