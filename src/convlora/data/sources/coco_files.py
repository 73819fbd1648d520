"""Finding COCO's annotation files."""

from __future__ import annotations

import json
import re
from pathlib import Path

from convlora.data.sources.folder import SPLITS
from convlora.data.sources.listing import entries
from convlora.errors import InputError, shown_list
from convlora.untrusted import read_text

LARGEST_COCO = 4 << 30  # bytes; the largest in use has half a gigabyte

_MOST_FILES = 20  # that are opened to find one
_OTHER_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_KINDS = ("panoptic", "instances", "stuff")  # panoptic files label more


def is_coco(path: Path) -> bool:
    """Whether a file is JSON with the lists that COCO's annotation files have."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        text = read_text(path, LARGEST_COCO)
    except (OSError, ValueError):
        return False
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):  # cut short, say: to be read and named as such
        return '"annotations"' in text or '"images"' in text
    if not isinstance(fields, dict):
        return False
    return len({"images", "annotations", "categories"} & fields.keys()) >= 2  # what lacks one is to be named as such


def find_annotations(root: Path) -> dict[str, Path]:
    """The annotation files of a folder by split, `"all"` for data that come undivided.

    Known are COCO's own layout and CVAT's (`annotations/instances_train2017.json`), Roboflow's
    (`train/_annotations.coco.json`), `train/annotations.json` and `train.json`.
    """
    found: dict[str, Path] = {}
    for split in SPLITS:
        for name in _OTHER_NAMES[split]:
            beside = [path for kind in _KINDS for path in _matching(root / "annotations", rf"{kind}_{name}\d*\.json")]
            inside = [
                path
                for folder in _matching(root, name)
                for path in (folder / "_annotations.coco.json", folder / "annotations.json")
            ]
            candidates = [*beside, *inside, *_matching(root, rf"{name}\.json")]
            path = next((path for path in candidates if is_coco(path)), None)
            if path is not None:
                found.setdefault(split, path)
    if not found:
        undivided = [root / "annotations" / f"{kind}_default.json" for kind in _KINDS]
        undivided += [root / "_annotations.coco.json", root / "annotations.json"]
        path = next((path for path in undivided if is_coco(path)), None)
        if path is not None:
            found["all"] = path
    return found


def any_annotations(root: Path) -> dict[str, Path]:
    """The one annotation file of a folder or its `annotations`, whatever it is called, as undivided data.

    Label Studio calls it `result.json`.

    Raises:
        InputError: If there are several.
    """
    folders = [folder for folder in (root, root / "annotations") if folder.is_dir()]
    files = [path for folder in folders for path in entries(folder) if path.suffix.lower() == ".json"]
    if len(files) > _MOST_FILES:  # one for each image, of another tool
        return {}
    found = [path for path in files if is_coco(path)]
    if len(found) > 1:
        raise InputError(
            f"{root} holds several files of COCO annotations: {shown_list([path.name for path in found])}. Name one of "
            "them itself, or call them train.json, val.json and test.json."
        )
    return {"all": found[0]} if found else {}


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Entries of a folder whose whole name matches, in either case; the last year of several first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in entries(folder) if re.fullmatch(pattern, path.name, re.IGNORECASE)), reverse=True)
