"""`shares.json` beside predictions: which part of each image is of which class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convlora.data.classes import ClassTable
from convlora.errors import InputError
from convlora.inference.files import SOFTWARE
from convlora.inference.palette import class_colours
from convlora.storage import write_json
from convlora.untrusted import read_json

NAME = "shares.json"


def read_shares(output: Path, classes: ClassTable) -> dict[str, dict[str, float]]:
    """The shares that earlier predictions of the same classes left in a folder.

    Args:
        output: The folder of the results.
        classes: The classes.

    Returns:
        Share of each class by the name of the image; empty if there is no file, or one of other classes.

    Raises:
        InputError: If there is a file of that name which is none of ours.
    """
    path = output / NAME
    if not path.exists():
        return {}
    try:
        content = read_json(path, largest=1 << 30)
        if not str(content["software"]).startswith(SOFTWARE):
            raise ValueError("not made by convlora")
        same = content["classes"] == list(classes.names)
        return dict(content["images"]) if same else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} exists and was not made by convlora. Choose another --output.") from error


def write_shares(output: Path, classes: ClassTable, shares: Mapping[str, Mapping[str, float]]) -> None:
    """Writes the file: the classes with their colours, and the shares, which sum to 1, by the name of the image."""
    content: dict[str, Any] = {
        "software": SOFTWARE,
        "classes": list(classes.names),
        "colors": [list(colour) for colour in class_colours(classes)],
        "images": dict(sorted(shares.items())),
    }
    write_json(output / NAME, content)
