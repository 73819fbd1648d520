"""Supervisely: meta.json, and folders of data sets with img and ann.

Source: Supervisely's documentation of its JSON format. A bitmap is a PNG file, compressed by zlib and written in
base64; its origin is the pixel (x, y) of the image where it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convlora.data.reading.colours import Colour
from convlora.data.reading.images import is_image_file
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.folder import likely_split, subfolders
from convlora.data.sources.formats.found import (
    ALL,
    Found,
    Reading,
    classes_with_background,
    counted,
    json_of,
    named_samples,
)
from convlora.data.sources.formats.labelme import box, flat
from convlora.data.sources.formats.shapes import Bitmap, Drawing, Polygons, Shape, ShapesMask
from convlora.data.sources.listing import entries
from convlora.errors import InputError, shown


def _folders(root: Path) -> list[Path]:
    """Data sets, also those inside each other (in `datasets`)."""
    found, todo = [], [root]
    while todo:
        folder = todo.pop()
        if (folder / "ann").is_dir() and (folder / "img").is_dir():
            found.append(folder)
        if len(folder.parts) - len(root.parts) < 8:
            todo += [one for one in subfolders(folder) if one.name not in ("ann", "img") and not one.is_symlink()]
    return sorted(found)


def is_supervisely(root: Path) -> bool:
    """Whether there is a meta.json and a folder with ann and img."""
    return root.is_dir() and (root / "meta.json").is_file() and bool(_folders(root))


def read_supervisely(root: Path, reading: Reading) -> Found:
    """Reads a project.

    Raises:
        InputError: It has no meta.json, or no image.
    """
    meta = root / "meta.json"
    if not root.is_dir() or not meta.is_file():
        raise InputError(f"{root} has no meta.json. Give the folder of a Supervisely project.")
    fields = json_of(meta)
    try:
        named = [(str(one["title"]), _colour(one.get("color"))) for one in fields["classes"]]  # type: ignore[index]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{meta} names no classes ({shown(error)}). Export the project again.") from error
    classes, index = classes_with_background([name for name, _ in named], meta, [colour for _, colour in named])
    pairs: dict[str, list[tuple[ImageSource, ImageSource]]] = {}
    missing, broken, lonely, empty = [], [], [], []
    skipped: list[str] = []
    for folder in _folders(root):
        split = likely_split(folder.name) or ALL
        wanted = set()
        for image in entries(folder / "img"):
            if not is_image_file(image):
                continue
            names = (f"{image.name}.json", f"{image.stem}.json")
            annotation = next((folder / "ann" / name for name in names if (folder / "ann" / name).is_file()), None)
            if annotation is None:
                missing.append(image)
                continue
            wanted.add(annotation)
            try:
                content = json_of(annotation)
                size = int(content["size"]["height"]), int(content["size"]["width"])  # type: ignore[index]
                drawn = list(_drawings(content["objects"], annotation, skipped))  # type: ignore[index]
            except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
                broken.append(annotation)
                continue
            shapes = tuple(Shape(index[name], drawing, what) for name, drawing, what in drawn if name in index)
            skipped += [f"{what} of {annotation} ({shown(name)})" for name, _, what in drawn if name not in index]
            empty += [] if shapes else [image]
            pairs.setdefault(split, []).append((image, ShapesMask(annotation, image, shapes, size)))
        lonely += [path for path in entries(folder / "ann") if path.suffix == ".json" and path not in wanted]
    if not pairs:
        raise InputError(f"{root} has no image with an annotation. Export the project with its images.")
    text = ("has no annotation file", "images have no annotation file")
    problems = counted("missing-pair", missing, *text, "They are left out.")
    text = ("is damaged", "annotation files are damaged")
    problems += counted("unreadable", broken, *text, "They are left out. Export the project again.")
    text = ("has no image", "annotation files have no image")
    problems += counted("missing-pair", lonely, *text, "They are not used.")
    text = ("is no area of a class in meta.json", "objects are no areas of a class in meta.json")
    problems += counted("no-area", skipped, *text, "They are left out.")
    text = ("has no object", "images have no object")
    problems += counted("no-annotation", empty, *text, "They count as background.")
    notes = ["Where objects overlap, the later one of the file is on top."]
    return Found({split: named_samples(some, root) for split, some in pairs.items()}, classes, problems, notes)


def _drawings(objects: list[Any], path: Path, skipped: list[str]) -> Iterator[tuple[str, Drawing, str]]:
    for number, one in enumerate(objects, start=1):
        what = f"object {number}"
        try:
            kind, name = (
                str(one.get("geometryType") or ("bitmap" if one.get("bitmap") else "polygon")),
                one["classTitle"],
            )
            drawing: Drawing | None = None
            if kind == "bitmap":
                x, y = one["bitmap"]["origin"]
                drawing = Bitmap(str(one["bitmap"]["data"]), (float(x), float(y)), packed=True)
            elif kind in ("polygon", "rectangle"):
                outside = [(float(x), float(y)) for x, y in one["points"]["exterior"]]
                holes = [[(float(x), float(y)) for x, y in hole] for hole in one["points"].get("interior") or ()]
                if kind == "rectangle":
                    (left, top), (right, bottom) = outside
                    # Both corners are pixels that belong to it.
                    drawing = box(min(left, right), min(top, bottom), max(left, right) + 1, max(top, bottom) + 1)
                else:
                    drawing = Polygons((flat(outside),), tuple(map(flat, holes)), traced=True)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            drawing = None
            name = kind = "damaged"
        if drawing is None:
            skipped.append(f"{what} of {path} ({shown(kind)})")
        else:
            yield str(name), drawing, what


def _colour(text: Any) -> Colour | None:
    try:
        number = int(str(text).removeprefix("#"), 16)
    except ValueError:
        return None
    return (number >> 16 & 255, number >> 8 & 255, number & 255) if len(str(text)) == 7 else None
