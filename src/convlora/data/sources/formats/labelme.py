"""LabelMe: a JSON file for each image.

Source: `labelme/utils/shape.py` (`shape_to_mask`) and `labelme/_label_file.py` of LabelMe. Coordinates are pixels of
the upright image; a rectangle has two corners, a circle its middle and a point on it, a mask the first and the last
pixel that its PNG file covers.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from convlora.data.problem import Problem
from convlora.data.reading.images import IMAGE_SUFFIXES, is_image_file
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.folder import likely_split
from convlora.data.sources.formats.found import (
    ALL,
    Found,
    Reading,
    classes_with_background,
    counted,
    files_below,
    json_of,
    named_samples,
)
from convlora.data.sources.formats.shapes import Bitmap, Drawing, Ellipse, Polygons, Shape, ShapesMask
from convlora.data.sources.listing import entries, find_written
from convlora.errors import InputError, shown, shown_list
from convlora.untrusted import read_text

IGNORE = "__ignore__"
_LOOKED_AT = 20  # files, to tell whether there are such
_LINES = ("line", "linestrip", "point", "points", "multipoints")
_LARGEST = 1 << 28  # bytes of a file, which may hold its image


@dataclass(frozen=True)
class EmbeddedImage:
    """An image that a LabelMe file holds itself.

    Args:
        path: The file.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> bytes:
        """The content of the image file."""
        fields = json_of(self.path)
        try:
            return base64.b64decode(fields["imageData"])  # type: ignore[index]
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise InputError(f"{self.path} holds no readable imageData. Put its image beside it.") from error


def is_labelme(root: Path) -> bool:
    """Whether JSON files of a folder, or of its subfolders, hold shapes as LabelMe's do."""
    return any(_has_shapes(path) for path in _json_files(root)[:_LOOKED_AT])


def _json_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == ".json" else []
    direct = [path for path in entries(root) if path.suffix.lower() == ".json" and path.is_file()]
    return direct or [path for path in files_below(root) if path.suffix.lower() == ".json"]


def _has_shapes(path: Path) -> bool:
    try:
        text = read_text(path, _LARGEST)
    except (OSError, ValueError):
        return False
    return '"shapes"' in text and '"imagePath"' in text


def read_labelme(root: Path, reading: Reading) -> Found:
    """Reads all files of a folder and its subfolders; a subfolder called like a split is that split.

    Raises:
        InputError: No file can be used.
    """
    folder = root if root.is_dir() else root.parent
    files = [root] if root.is_file() else [path for path in files_below(root) if path.suffix.lower() == ".json"]
    read: list[tuple[str, Path, ImageSource, dict[str, Any]]] = []
    problems: list[Problem] = []
    broken, missing, used = [], [], set()
    by_name: dict[str, list[Path]] = {}
    for one in files_below(folder) if root.is_dir() else []:
        by_name.setdefault(one.name, []).append(one)
    for path in files:
        try:
            fields = json_of(path)
        except InputError as error:
            broken.append(f"{path} ({error})")
            continue
        if not isinstance(fields, dict) or not isinstance(fields.get("shapes"), list):
            broken.append(str(path))
            continue
        image = _image_of(path, fields, by_name)
        if image is None:
            missing.append(path)
            continue
        used.add(image)
        read.append((_split_of(path, folder), path, image, fields))
    names: dict[str, None] = {}
    skipped: list[str] = []
    drawings: list[list[tuple[str, Drawing, str]]] = []
    for _, path, _, fields in read:
        drawings.append(list(_drawings(path, fields["shapes"], skipped)))
        names.update(dict.fromkeys(name for name, _, _ in drawings[-1] if name != IGNORE))
    if not read:
        first = [*broken, *map(str, missing), "there is none"][0]
        raise InputError(f"{root} holds no LabelMe file with its image ({shown(first)}). Put the images beside them.")
    if not names:
        raise InputError(f"No LabelMe file of {root} holds an area: {shown_list(skipped) or 'there are no shapes'}.")
    ordered = _stated_order(folder, sorted(names))
    classes, index = classes_with_background(ordered, folder)
    index[IGNORE] = classes.ignore_index
    pairs: dict[str, list[tuple[ImageSource, ImageSource]]] = {}
    for (split, path, image, fields), drawn in zip(read, drawings, strict=True):
        shapes = tuple(Shape(index[name], drawing, what) for name, drawing, what in drawn)
        mask = ShapesMask(path, image, shapes, _size(fields))
        pairs.setdefault(split, []).append((image, mask))
    splits = {split: named_samples(some, folder) for split, some in pairs.items()}
    text = ("is no LabelMe file", "JSON files are no LabelMe files")
    problems += counted("unreadable", broken, *text, "They are left out.")
    text = ("has no image, and holds none", "LabelMe files have no image, and hold none")
    problems += counted("missing-pair", missing, *text, "They are left out. Put the images beside them.")
    text = ("is no area", "shapes are no areas")
    problems += counted("no-area", skipped, *text, "They are left out. Draw polygons, rectangles, circles or masks.")
    if root.is_dir():
        alone = [path for path in files_below(root) if is_image_file(path) and path not in used]
        text = ("has no LabelMe file", "images have no LabelMe file")
        remedy = "They are left out. Save images that show nothing in LabelMe, too: they are background then."
        problems += counted("no-annotation", alone, *text, remedy)
    return Found(splits, classes, problems, ["Where shapes overlap, the later one of the file is on top."])


def _stated_order(folder: Path, names: list[str]) -> list[str]:
    """The names in the order of a labels.txt, as LabelMe takes it, or sorted."""
    path = folder / "labels.txt"
    try:
        listed = [line.strip() for line in read_text(path).splitlines()] if path.is_file() else []
    except (OSError, ValueError):
        listed = []
    return [name for name in listed if name and name != IGNORE] + [name for name in names if name not in listed]


def _split_of(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).parts[:-1]
    return next((split for part in parts if (split := likely_split(part))), ALL)


def _image_of(path: Path, fields: dict[str, Any], by_name: dict[str, list[Path]]) -> ImageSource | None:
    """The image of a file: the one it names, one of its own name beside it, or the one it holds."""
    written = str(fields.get("imagePath") or "")
    names = [written, PureWindowsPath(written).name] if written else []
    for name in names:
        image = find_written(path.parent, name)
        if image is not None and is_image_file(image):
            return Path(*image.parts)
    for suffix in IMAGE_SUFFIXES:
        for ending in (suffix, suffix.upper()):
            if path.with_suffix(ending).is_file():
                return path.with_suffix(ending)
    same = by_name.get(names[-1], []) if names else []
    if len(same) == 1 and is_image_file(same[0]):  # images and annotations in folders of their own
        return same[0]
    return EmbeddedImage(path) if isinstance(fields.get("imageData"), str) else None


def _size(fields: dict[str, Any]) -> tuple[int, int] | None:
    height, width = fields.get("imageHeight"), fields.get("imageWidth")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None


def _drawings(path: Path, shapes: list[Any], skipped: list[str]) -> Iterator[tuple[str, Drawing, str]]:
    """Label, area and name of each shape that has an area."""
    for number, shape in enumerate(shapes, start=1):
        what = f"shape {number}"
        try:
            kind, label = str(shape.get("shape_type") or "polygon"), str(shape["label"])
            points = [(float(x), float(y)) for x, y in shape["points"]]
            drawing = None if kind in _LINES else _drawing(kind, points, shape)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            skipped.append(f"{what} of {path}, which is damaged,")
            continue
        if drawing is None:
            skipped.append(f"{what} of {path} ({shown(kind)})")
        else:
            yield label, drawing, f"{what} ({shown(label)})"


def _drawing(kind: str, points: list[tuple[float, float]], shape: dict[str, Any]) -> Drawing | None:
    if kind in ("polygon", "oriented_rectangle"):
        return Polygons((flat(points),), traced=True) if len(points) >= 3 else None
    if kind == "rectangle" and len(points) in (2, 4):
        xs, ys = zip(*points, strict=True)
        return box(min(xs), min(ys), max(xs), max(ys))
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        return Ellipse(points[0], (radius, radius))
    if kind == "mask" and isinstance(shape.get("mask"), str) and points:
        left, top = points[0]
        return Bitmap(shape["mask"], (float(int(left)), float(int(top))))  # cut off, as LabelMe does
    return None


def flat(points: list[tuple[float, float]]) -> tuple[float, ...]:
    """Corners as x, y, x, y, ..."""
    return tuple(part for point in points for part in point)


def box(left: float, top: float, right: float, bottom: float) -> Polygons:
    """A rectangle."""
    return Polygons(((left, top, right, top, right, bottom, left, bottom),))
