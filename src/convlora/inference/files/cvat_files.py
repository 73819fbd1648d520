"""`cvat.xml` and `cvat_labels.json`: masks and labels as CVAT imports them.

The masks are in the format "CVAT for images 1.1": an object is a mask of its own, as runs along the rows of its box.
The labels are what "Raw" takes where a task or project is made.

Source: https://docs.cvat.ai/docs/manual/advanced/xml_format/
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError, shown
from convlora.inference.files.pieces import read_piece
from convlora.links import open_own
from convlora.pictures.palette import class_colours, hexadecimal
from convlora.storage import SOFTWARE, replacing_file
from convlora.untrusted import read_json

NAME, LABELS_NAME, LABELS_KEY = "cvat.xml", "cvat_labels.json", "cvat_labels"
_HEAD = f'<?xml version="1.0" encoding="utf-8"?>\n<!-- Made by {SOFTWARE} -->\n'
_IMAGE = re.compile(r"  <image id=\"\d+\" name=([\"'])(.*?)\1 ")
# What XML 1.0 has no way to write, and what stands for bytes that are no UTF-8.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_KEYS = {"name", "color", "type", "attributes"}


def check_text(text: str) -> None:
    """Checks that XML, and what tools keep names in, can hold a name.

    Raises:
        InputError: If it cannot.
    """
    if _UNWRITABLE.search(text):
        raise InputError(
            f"Annotation tools cannot hold the name '{shown(text)}'. Rename it without control characters."
        )


def read_images(path: Path) -> list[str]:
    """The names of the images in a file of ours.

    Raises:
        ValueError: If it is none of ours.
        OSError: If it cannot be read.
    """
    with open_own(path, "r") as file:
        if file.read(len(_HEAD)) != _HEAD:
            raise ValueError("not made by convlora")
        return [html.unescape(found[2]) for found in map(_IMAGE.match, file) if found]


def check_labels(path: Path) -> None:
    """Checks that labels are ours.

    Raises:
        ValueError: If they are not.
        OSError: If they cannot be read.
    """
    labels = read_json(path)
    if not isinstance(labels, list) or any(label.keys() != _KEYS or label["type"] != "mask" for label in labels):
        raise ValueError("not made by convlora")


def write_labels(path: Path, classes: ClassTable) -> None:
    """Writes the labels: all classes but the background."""
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(_labels(classes), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_masks(path: Path, classes: ClassTable, pieces: Sequence[Path], run: str, image_url: str | None) -> None:
    """Writes the masks of all images; only one image is in memory at a time.

    Args:
        path: Where they go.
        classes: The classes.
        pieces: Pieces of each image, in the order of the images.
        run: Not used: CVAT has no place for it.
        image_url: Not used: CVAT knows images by their names.

    Raises:
        InputError: If a piece is none of ours.
    """
    with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"{_HEAD}<annotations>\n  <version>1.1</version>\n  <meta><task><labels>\n")
        for label in _labels(classes):
            file.write(
                f"    <label><name>{escape(label['name'])}</name><color>{label['color']}</color>"
                "<type>mask</type><attributes></attributes></label>\n"
            )
        file.write("  </labels></task></meta>\n")
        for number, piece in enumerate(pieces):
            entries = read_piece(piece)
            head = next(entries)
            height, width = head["size"]
            name = quoteattr(str(head["image"]))
            file.write(f'  <image id="{number}" name={name} width="{width}" height="{height}">\n')
            for entry in entries:
                file.write(_mask(entry))
            file.write("  </image>\n")
        file.write("</annotations>\n")


def _labels(classes: ClassTable) -> list[dict[str, Any]]:
    return [
        {"name": name, "color": hexadecimal(colour), "type": "mask", "attributes": []}
        for index, (name, colour) in enumerate(zip(classes.names, class_colours(classes)))
        if index != classes.background
    ]


def _mask(entry: dict[str, Any]) -> str:
    left, top = entry["left"], entry["top"]
    runs = ", ".join(map(str, entry["runs"]))
    return (
        f'    <mask label={quoteattr(entry["class_name"])} source="auto" occluded="0" rle="{runs}" left="{left}" '
        f'top="{top}" width="{entry["right"] - left}" height="{entry["bottom"] - top}" z_order="0"></mask>\n'
    )
