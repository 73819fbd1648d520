"""`shares.json` beside predictions: the share of each class in each image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError, shown
from convlora.links import is_link
from convlora.locking import only_one
from convlora.pictures.palette import class_colours
from convlora.storage import SOFTWARE, write_json
from convlora.untrusted import read_json

NAME = "shares.json"
_LOCK = ".shares.lock"
_LARGEST = 1 << 30  # bytes; a million images take a tenth of it


def check_shares(output: Path, classes: ClassTable, images: Iterable[str]) -> None:
    """Checks before a prediction that its shares can be added to what is in a folder.

    Args:
        output: The folder of the results.
        classes: The classes.
        images: Names of the images that are about to be predicted.

    Raises:
        InputError: If there is a file of that name which is none of ours, or shares of other classes would be lost.
    """
    _kept(output, classes, images)


def add_shares(
    output: Path, classes: ClassTable, shares: Mapping[str, Mapping[str, float]], images: Iterable[str] | None = None
) -> None:
    """Writes the file: the classes with their colours, and the shares, which sum to 1, by the name of the image.

    What stands there of other images and the same classes stays, also if other processes write at the same time.

    Args:
        output: The folder of the results.
        classes: The classes.
        shares: By the name of the image.
        images: Names of all images that were to be predicted, also of those that could not be read. Default: those of
            the shares.

    Raises:
        InputError: As [`check_shares`]; another prediction may have written there since.
    """
    if not shares:
        return
    with only_one(output, _LOCK, wait=True):
        kept = _kept(output, classes, shares if images is None else images)
        content: dict[str, Any] = {
            "software": SOFTWARE,
            "classes": list(classes.names),
            "colors": [list(colour) for colour in class_colours(classes)],
            "images": dict(sorted({**kept, **shares}.items())),
        }
        write_json(output / NAME, content)


def _kept(output: Path, classes: ClassTable, images: Iterable[str]) -> dict[str, Mapping[str, float]]:
    """The shares in a folder to which those of some images can be added."""
    named, earlier = _read(output)
    if named in (None, list(classes.names)):
        return earlier
    lost = sorted(earlier.keys() - set(images))
    if lost:
        raise InputError(
            f"{output / NAME} has shares of other classes, also for images that are not predicted now, such as "
            f"{shown(lost[0])}. Choose another --output."
        )
    return {}


def _read(output: Path) -> tuple[list[str] | None, dict[str, Mapping[str, float]]]:
    """Classes and shares that earlier predictions left in a folder."""
    path = output / NAME
    if not path.exists() and not is_link(path):
        return None, {}
    try:
        if is_link(path):
            raise ValueError("a link")
        content = read_json(path, _LARGEST)
        if not str(content["software"]).startswith(SOFTWARE):
            raise ValueError("not made by convlora")
        return list(content["classes"]), dict(content["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} exists and was not made by convlora. Choose another --output.") from error
