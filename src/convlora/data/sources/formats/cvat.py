"""CVAT for images 1.1: one annotations.xml with polygons, boxes, ellipses and masks.

Source: `cvat/apps/dataset_manager/formats/cvat.py` of CVAT. The run lengths of a mask count 0 and 1 in turn, row by
row, within its rectangle. Coordinates are pixels of the upright image; `z_order` says what lies above what.
"""

from __future__ import annotations

import math
import xml.parsers.expat as expat
from dataclasses import dataclass, field
from pathlib import Path

from convlora.data.reading.colours import Colour
from convlora.data.reading.images import is_image_file
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.folder import likely_split
from convlora.data.sources.formats.found import (
    ALL,
    Found,
    Reading,
    classes_with_background,
    counted,
    images_below,
    named_samples,
)
from convlora.data.sources.formats.shapes import Drawing, Ellipse, Polygons, Runs, Shape, ShapesMask
from convlora.data.sources.listing import entries
from convlora.errors import InputError, shown
from convlora.untrusted import read_text

_LARGEST = 1 << 30  # bytes
_DEEPEST = 64  # elements inside each other
_SHAPES = ("polygon", "box", "ellipse", "mask")
_LINES = ("polyline", "points", "cuboid", "skeleton", "tag")


@dataclass
class _Image:
    name: str
    size: tuple[int, int]
    subset: str
    shapes: list[tuple[int, str, Drawing, str]] = field(default_factory=list)  # z_order, label, area, name


class _Reader:
    """Collects labels and images while the file is read; nothing of it is kept as a tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.labels: dict[str, str] = {}
        self.images: list[_Image] = []
        self.skipped: list[str] = []
        self.is_video = False
        self._open: list[str] = []
        self._text: list[str] = []
        self._name = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name)
        if len(self._open) > _DEEPEST:
            raise InputError(f"{self.path} is nested too deeply. Export it again.")
        self._text = []
        if name == "track":
            self.is_video = True
        elif name == "label":
            self._name = ""
        elif name == "image":
            size = int(attributes["height"]), int(attributes["width"])
            self.images.append(_Image(attributes["name"], size, attributes.get("subset", "")))
        elif self.images and len(self._open) > 1 and self._open[-2] == "image":
            self._shape(name, attributes)

    def end(self, name: str) -> None:
        self._open.pop()
        if self._open and self._open[-1] == "label":
            text = "".join(self._text).strip()
            if name == "name":
                self._name = text
                self.labels.setdefault(text, "")
            elif name == "color" and self._name:
                self.labels[self._name] = text
        self._text = []

    def text(self, data: str) -> None:
        self._text.append(data)

    def _shape(self, kind: str, attributes: dict[str, str]) -> None:
        image = self.images[-1]
        what = f"{kind} {len(image.shapes) + 1} of {image.name}"
        if kind not in _SHAPES:
            if kind in _LINES:
                self.skipped.append(f"{what} in {self.path}")
            return
        try:
            drawing = _drawing(kind, attributes)
            order = int(attributes.get("z_order", "0"))
        except (KeyError, ValueError, OverflowError):
            self.skipped.append(f"{what} in {self.path}, which is damaged,")
            return
        image.shapes.append((order, attributes.get("label", ""), drawing, f"{kind} {len(image.shapes) + 1}"))


def _drawing(kind: str, given: dict[str, str]) -> Drawing:
    if kind == "polygon":
        points = tuple(float(part) for point in given["points"].split(";") for part in point.split(","))
        return Polygons((points,))
    if kind == "mask":
        counts = tuple(int(part) for part in given["rle"].split(",") if part.strip())
        corner = float(given["left"]), float(given["top"])
        return Runs(counts, corner, (int(float(given["height"])), int(float(given["width"]))))
    if kind == "ellipse":
        centre, radii = (float(given["cx"]), float(given["cy"])), (float(given["rx"]), float(given["ry"]))
        return Ellipse(centre, radii, float(given.get("rotation", "0")))
    left, top, right, bottom = (float(given[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    return turned_box(left, top, right, bottom, float(given.get("rotation", "0")))


def turned_box(left: float, top: float, right: float, bottom: float, degrees: float) -> Polygons:
    """A rectangle turned clockwise about its middle."""
    middle_x, middle_y, turn = (left + right) / 2, (top + bottom) / 2, math.radians(degrees)
    points: list[float] = []
    for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)):
        across, down = x - middle_x, y - middle_y
        points += [
            middle_x + across * math.cos(turn) - down * math.sin(turn),
            middle_y + across * math.sin(turn) + down * math.cos(turn),
        ]
    return Polygons((tuple(points),))


def find_xml(root: Path) -> list[Path]:
    """The annotations.xml of a folder, or the ones of the tasks of a project in it."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".xml" and _is_cvat(root) else []
    direct = [path for path in entries(root) if path.suffix.lower() == ".xml" and _is_cvat(path)]
    if direct:
        return direct
    inner = [path / "annotations.xml" for path in entries(root) if path.is_dir()]
    return [path for path in inner if path.is_file() and _is_cvat(path)]


def _is_cvat(path: Path) -> bool:
    try:
        return "<annotations>" in read_text(path, _LARGEST, errors="replace")[:4096]
    except (OSError, ValueError):
        return False


def is_cvat(root: Path) -> bool:
    """Whether there is an annotations.xml."""
    return bool(find_xml(root))


def read_cvat(root: Path, reading: Reading) -> Found:
    """Reads the file or files.

    Raises:
        InputError: A file is damaged, is about a video, or there are no images.
    """
    files = find_xml(root)
    if not files:
        raise InputError(f"{root} holds no annotations.xml of CVAT. Export 'CVAT for images 1.1'.")
    read = [_parsed(path) for path in files]
    for one in read:
        if one.is_video and not one.images:
            raise InputError(f"{one.path} is 'CVAT for video', which is not read. Export 'CVAT for images 1.1'.")
    labels: dict[str, str] = {}
    for one in read:
        labels.update(one.labels)
    used = {label: "" for one in read for image in one.images for _, label, _, _ in image.shapes}
    names = {**labels, **{name: "" for name in used if name not in labels}}
    folder = root if root.is_dir() else root.parent
    classes, index = classes_with_background(names, files[0], [_colour(text) for text in names.values()])
    known = {image.relative_to(folder).as_posix(): image for image in images_below(folder)}
    by_name: dict[str, list[Path]] = {}
    for image in known.values():
        by_name.setdefault(image.name, []).append(image)
    pairs: dict[str, list[tuple[ImageSource, ImageSource]]] = {}
    missing, empty, skipped = [], [], []
    for one in read:
        skipped += one.skipped
        for entry in one.images:
            found = _image_of(entry, one.path.parent, folder, known, by_name)
            if found is None:
                missing.append(f"{entry.name} of {one.path}")
                continue
            if not entry.shapes:
                empty.append(found)
            ordered = sorted(entry.shapes, key=lambda shape: shape[0])
            shapes = tuple(Shape(index[label], drawing, what) for _, label, drawing, what in ordered)
            split = likely_split(entry.subset) or ALL
            pairs.setdefault(split, []).append((found, ShapesMask(one.path, found, shapes, entry.size)))
    if not pairs:
        raise InputError(
            f"{files[0]} lists {len(missing)} images, and none of them is in {folder}. Export again with 'Save "
            "images', or put the images there."
        )
    problems = counted("missing-pair", missing, "is missing", "images are missing", "They are left out.")
    text = ("has no shape", "images have no shape")
    problems += counted(
        "no-annotation", empty, *text, "They count as background. Annotate them if they show something."
    )
    problems += counted("no-area", skipped, "is no area", "shapes are no areas", "They are left out.")
    notes = ["Where shapes overlap, z_order decides, then the order of the file: later ones are on top."]
    return Found({split: named_samples(some, folder) for split, some in pairs.items()}, classes, problems, notes)


def _image_of(
    entry: _Image, beside: Path, folder: Path, known: dict[str, Path], by_name: dict[str, list[Path]]
) -> Path | None:
    """The image of an entry by its path, in images/ as CVAT packs it, or by its name if that is the only one."""
    written = entry.name.replace("\\", "/")
    places = [beside.relative_to(folder) / one for one in ("", "images", f"images/{entry.subset}")]
    for place in places:
        image = known.get((place / written).as_posix())
        if image is not None:
            return image
    same = by_name.get(Path(written).name, [])
    return same[0] if len(same) == 1 and is_image_file(same[0]) else None


def _parsed(path: Path) -> _Reader:
    reader = _Reader(path)
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.text

    def refuse(*_: object) -> None:
        raise InputError(f"{path} declares a document type, which CVAT's files do not. Export it again.")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(read_text(path, _LARGEST), True)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (expat.ExpatError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no file of CVAT for images ({shown(error)}). Export it again.") from error
    return reader


def _colour(text: str) -> Colour | None:
    try:
        number = int(text.removeprefix("#"), 16)
    except ValueError:
        return None
    return (number >> 16 & 255, number >> 8 & 255, number & 255) if len(text) == 7 else None
