"""`labelstudio.json` and `labelstudio.xml`: tasks with predictions, and the labeling interface that goes with them.

Source: https://labelstud.io/guide/predictions and https://labelstud.io/tags/brushlabels
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from convlora.data.classes.class_table import ClassTable
from convlora.inference.files.cvat_files import check_text as check_text
from convlora.inference.files.pieces import read_piece
from convlora.inference.label_studio import IMAGE, LABELS, brush_label
from convlora.links import open_own
from convlora.measuring.row_runs import mask_of
from convlora.pictures.palette import class_colours, hexadecimal
from convlora.storage import SOFTWARE, replacing_file
from convlora.untrusted import read_json

NAME, LABELS_NAME, LABELS_KEY = "labelstudio.json", "labelstudio.xml", "labelstudio_config"
_HEAD = f"<!-- Made by {SOFTWARE} -->\n"
_LOCAL = "/data/local-files/?d="  # where Label Studio serves files of its own disk
_LARGEST = 1 << 30  # bytes


def read_images(path: Path) -> list[str]:
    """The names of the images in a file of ours.

    Raises:
        ValueError: If it is none of ours.
        OSError: If it cannot be read.
    """
    tasks = read_json(path, _LARGEST)
    if any(task["data"]["made_by"] != SOFTWARE for task in tasks):
        raise ValueError("not made by convlora")
    return [str(task["data"]["file"]) for task in tasks]


def check_labels(path: Path) -> None:
    """Checks that a labeling interface is ours.

    Raises:
        ValueError: If it is not.
        OSError: If it cannot be read.
    """
    with open_own(path, "r") as file:
        if file.read(len(_HEAD)) != _HEAD:
            raise ValueError("not made by convlora")


def write_labels(path: Path, classes: ClassTable) -> None:
    """Writes the labeling interface: a brush for each class but the background."""
    brushes = "".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(hexadecimal(colour))}/>\n"
        for index, (name, colour) in enumerate(zip(classes.names, class_colours(classes)))
        if index != classes.background
    )
    with replacing_file(path) as temporary:
        temporary.write_text(
            f'{_HEAD}<View>\n  <Image name="{IMAGE}" value="$image" zoom="true"/>\n'
            f'  <BrushLabels name="{LABELS}" toName="{IMAGE}">\n{brushes}  </BrushLabels>\n</View>\n',
            encoding="utf-8",
        )


def write_masks(path: Path, classes: ClassTable, pieces: Sequence[Path], run: str, image_url: str | None) -> None:
    """Writes a task for each image; only one image is in memory at a time.

    Args:
        path: Where they go.
        classes: The classes.
        pieces: Pieces of each image, in the order of the images.
        run: What the predictions are called.
        image_url: As of `convlora.inference.files.extras.Extras`.

    Raises:
        InputError: If a piece is none of ours.
    """
    with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, piece in enumerate(pieces):
            file.write((",\n" if number else "\n") + json.dumps(_task(piece, classes, run, image_url)))
        file.write("\n]\n")


def _task(piece: Path, classes: ClassTable, run: str, image_url: str | None) -> dict[str, Any]:
    entries = read_piece(piece)
    head = next(entries)
    size, found = (int(head["size"][0]), int(head["size"][1])), list(entries)
    of_kind: dict[int, list[dict[str, Any]]] = {}
    for entry in found:
        of_kind.setdefault(entry["class"], []).append(entry)
    result = []
    for kind in sorted(of_kind):
        mask = _drawn(of_kind[kind], size)
        result.append(brush_label(mask, kind, classes.names[kind], _score(of_kind[kind])))
    score = _score(found)
    prefix = _LOCAL + _escaped(f"{head['folder']}/") if image_url is None else image_url
    return {
        "data": {"image": prefix + _escaped(head["image"]), "file": head["image"], "made_by": SOFTWARE},
        "predictions": [{"model_version": run, "result": result} | ({} if score is None else {"score": score})],
    }


def _drawn(entries: Sequence[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """The mask of several objects, `(H, W)` bool."""
    mask = np.zeros(size, bool)
    for entry in entries:
        top, left, bottom, right = (int(entry[side]) for side in ("top", "left", "bottom", "right"))
        mask[top:bottom, left:right] |= mask_of(entry["runs"], (bottom - top, right - left))
    return mask


def _score(entries: Sequence[dict[str, Any]]) -> float | None:
    """The mean probability of the objects' pixels; None if there are none, or it is not known."""
    pixels = sum(entry["area_px"] for entry in entries)
    if not pixels or any(entry["mean_probability"] is None for entry in entries):
        return None
    return float(round(sum(entry["area_px"] * entry["mean_probability"] for entry in entries) / pixels, 6))


def _escaped(name: str) -> str:
    return quote(os.fsencode(name))
