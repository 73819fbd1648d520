"""Finding COCO's annotation files."""

from __future__ import annotations

import json
from pathlib import Path

from convlora.data.folder import SPLITS

_OTHER_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_KINDS = ("panoptic", "instances")  # panoptic files label more


def is_coco(path: Path) -> bool:
    """Whether a file is JSON with the lists that COCO's annotation files have."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and {"images", "annotations", "categories"} <= fields.keys()


def find_annotations(root: Path) -> dict[str, Path]:
    """The annotation files of a folder by split, `"all"` for data that come undivided.

    Known are COCO's own layout and CVAT's (`annotations/instances_train2017.json`), Roboflow's
    (`train/_annotations.coco.json`), `train/annotations.json` and `train.json`.
    """
    found: dict[str, Path] = {}
    for split in SPLITS:
        for name in _OTHER_NAMES[split]:
            candidates = [
                *(root / "annotations" / f"{kind}_{name}.json" for kind in _KINDS),
                *(
                    path
                    for kind in _KINDS
                    for path in sorted((root / "annotations").glob(f"{kind}_{name}[0-9]*.json"), reverse=True)
                ),
                root / name / "_annotations.coco.json",
                root / name / "annotations.json",
                root / f"{name}.json",
            ]
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
