"""Label Studio's JSON export, with polygons, brushes, rectangles and ellipses.

Source: `label_studio_sdk/converter` (`brush.py`: `decode_rle`). Coordinates are percents of the upright image; a brush
is the RGBA picture of the strokes, of which alpha counts, packed by @thi.ng/rle-pack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from convlora.data.reading.stored import ImageSource
from convlora.data.sources.formats.cvat import turned_box
from convlora.data.sources.formats.found import (
    ALL,
    Found,
    Reading,
    classes_with_background,
    counted,
    images_below,
    json_of,
    named_samples,
)
from convlora.data.sources.formats.shapes import Drawing, Ellipse, Polygons, Shape, ShapesMask
from convlora.data.sources.listing import entries
from convlora.errors import InputError
from convlora.untrusted import read_text

_LARGEST = 1 << 30  # bytes
_LOOKED_AT = 20  # files
_MOST_PIXELS = 1 << 27
_NO_REGIONS = ("relation", "choices", "textarea", "rating", "labels")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what it puts before names of uploaded files


@dataclass(frozen=True)
class Brush:
    """Strokes of a brush.

    Args:
        packed: The bytes of the packed RGBA picture.
        size: (height, width) of the image they are drawn on.
    """

    packed: bytes
    size: tuple[int, int]

    def pixels(self, height: int, width: int) -> np.ndarray:
        """The pixels that are not wholly transparent, `(H, W)` bool.

        Raises:
            ValueError: It is damaged, or of another size.
        """
        if self.size != (height, width):
            raise ValueError(f"its size {self.size[1]}x{self.size[0]} is not that of the image, {width}x{height}")
        values = unpacked(self.packed, 4 * height * width)
        return np.array(values.reshape(height, width, 4)[..., 3] > 0)


def unpacked(packed: bytes, count: int) -> np.ndarray:
    """Unpacks run lengths of @thi.ng/rle-pack.

    The first 32 bits are the number of values, 5 bits their width less one, four times 4 bits the widths of lengths
    less one. Then come runs: a bit that tells whether one value repeats, 2 bits that choose the width of the length,
    the length less one, and the value or values.

    Args:
        packed: The bytes.
        count: How many values there must be.

    Raises:
        ValueError: It is damaged.
    """
    bits = _Bits(packed)
    if bits.take(32) != count or count > 4 * _MOST_PIXELS:
        raise ValueError("its brush is not of the image's size")
    word = bits.take(5) + 1
    lengths = [bits.take(4) + 1 for _ in range(4)]
    if word > 8:
        raise ValueError("its brush has values of more than 8 bits")
    values = np.zeros(count, np.uint8)
    place = 0
    while place < count:
        repeats = bits.take(1)
        end = place + 1 + bits.take(lengths[bits.take(2)])
        if end > count:
            raise ValueError("its brush has runs that are too long")
        if repeats:
            values[place:end] = bits.take(word)
        else:
            values[place:end] = [bits.take(word) for _ in range(end - place)]
        place = end
    return values


class _Bits:
    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def take(self, count: int) -> int:
        """The next bits as a number."""
        first, last = self._place // 8, (self._place + count + 7) // 8
        if last > len(self._content):
            raise ValueError("its brush ends too early")
        number = int.from_bytes(self._content[first:last], "big")
        self._place += count
        return number >> (8 * last - self._place) & ((1 << count) - 1)


def find_export(root: Path) -> Path | None:
    """The JSON file of an export."""
    if root.is_file():
        return root if root.suffix.lower() == ".json" and _is_export(root) else None
    files = [path for path in entries(root) if path.suffix.lower() == ".json" and path.is_file()]
    return next((path for path in files[:_LOOKED_AT] if _is_export(path)), None)


def _is_export(path: Path) -> bool:
    try:
        text = read_text(path, _LARGEST)
    except (OSError, ValueError):
        return False
    return text.lstrip().startswith("[") and ('"annotations"' in text or '"completions"' in text) and '"result"' in text


def is_labelstudio(root: Path) -> bool:
    """Whether there is an export."""
    return find_export(root) is not None


def read_labelstudio(root: Path, reading: Reading) -> Found:
    """Reads an export; of several annotations of a task the one marked as ground truth counts, or the first.

    Raises:
        InputError: It is no export, or no image is there.
    """
    path = find_export(root)
    if path is None:
        raise InputError(f"{root} holds no JSON export of Label Studio. Export as JSON, not as JSON-MIN.")
    tasks = json_of(path)
    folder = path.parent
    by_name: dict[str, list[Path]] = {}
    for image in images_below(folder):
        by_name.setdefault(image.name, []).append(image)
        by_name.setdefault(_UPLOADED.sub("", image.name), []).append(image)
    read: list[tuple[Path, tuple[int, int] | None, list[tuple[str, Drawing, str]]]] = []
    missing, undone, skipped, several = [], [], [], []
    for number, task in enumerate(tasks if isinstance(tasks, list) else [], start=1):
        if not isinstance(task, dict):
            skipped.append(f"task {number} of {path}")
            continue
        name = f"task {task.get('id', number)} of {path}"
        chosen, count = _annotation(task)
        if chosen is None:
            undone.append(name)
            continue
        several += [name] if count > 1 else []
        found = _image_of(task, folder, by_name)
        if found is None:
            missing.append(name)
            continue
        size: list[tuple[int, int]] = []
        drawn = list(_drawings(chosen, name, skipped, size))
        read.append((found, size[0] if size else None, drawn))
    if not read:
        raise InputError(
            f"{path} has no annotated task whose image is in {folder}. Put the images beside the export, with the "
            "names they have in it."
        )
    names = sorted({label for _, _, drawn in read for label, _, _ in drawn})
    classes, index = classes_with_background(names, path)
    pairs: list[tuple[ImageSource, ImageSource]] = []
    for image, stated, drawn in read:
        shapes = tuple(Shape(index[label], drawing, what) for label, drawing, what in drawn)
        pairs.append((image, ShapesMask(path, image, shapes, stated)))
    text = ("has no image here", "tasks have no image here")
    problems = counted("missing-pair", missing, *text, "They are left out. Put the images beside the export.")
    text = ("is not annotated", "tasks are not annotated")
    problems += counted("no-annotation", undone, *text, "They are left out.")
    problems += counted("no-area", skipped, "is no area", "results are no areas", "They are left out.")
    text = ("has several annotations", "tasks have several annotations")
    problems += counted("several", several, *text, "The ground truth is taken, or the first.")
    notes = ["Where regions overlap, the later one of the file is on top."]
    return Found({ALL: named_samples(pairs, folder)}, classes, problems, notes)


def _annotation(task: dict[str, Any]) -> tuple[list[Any] | None, int]:
    """The result of the annotation that counts, and how many there are."""
    given = task.get("annotations", task.get("completions"))
    done = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")] if given else []
    done = [one for one in done if isinstance(one.get("result"), list)]
    best = next((one for one in done if one.get("ground_truth")), done[0] if done else None)
    return (None if best is None else best["result"]), len(done)


def _image_of(task: dict[str, Any], folder: Path, by_name: dict[str, list[Path]]) -> Path | None:
    """The image of a task, by the name that its address ends with."""
    data = task.get("data")
    written = [str(value) for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    written += [str(task["file_upload"])] if task.get("file_upload") else []
    for one in written:
        address = urlsplit(one)
        local = parse_qs(address.query).get("d", [address.path])[0]  # /data/local-files/?d=folder/name.jpg
        plain = Path(unquote(local).replace("\\", "/"))
        for name in dict.fromkeys((plain.name, _UPLOADED.sub("", plain.name))):
            same = list(dict.fromkeys(by_name.get(name, [])))
            ends = [path for path in same if path.as_posix().endswith(plain.as_posix().lstrip("/"))]
            if len(ends) == 1 or len(same) == 1:
                return (ends or same)[0]
    return None


def _drawings(
    result: list[Any], name: str, skipped: list[str], size: list[tuple[int, int]]
) -> Iterator[tuple[str, Drawing, str]]:
    chosen = _labels_by_region(result)
    for number, region in enumerate(result, start=1):
        what = f"region {number}"
        try:
            kind = str(region["type"])
            if kind in _NO_REGIONS:
                continue
            value = region["value"]
            height, width = int(region["original_height"]), int(region["original_width"])
            if int(region.get("image_rotation") or 0) % 360:
                raise ValueError("turned in the tool")
            labels = value.get(kind) or value.get("labels") or chosen.get(str(region.get("id")))
            if not labels:
                raise ValueError("without a label")
            drawing = _drawing(kind, value, height, width)
            label = str(labels[0])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
            skipped.append(f"{what} of {name}")
            continue
        if drawing is None:
            skipped.append(f"{what} of {name}")
            continue
        size.append((height, width))
        yield label, drawing, f"{what} ({label})"


def _labels_by_region(result: list[Any]) -> dict[str, Any]:
    """What a tag Labels says of regions that a tag such as Polygon drew: both have the same id."""
    found = {}
    for region in result:
        if isinstance(region, dict) and region.get("type") == "labels" and isinstance(region.get("value"), dict):
            found[str(region.get("id"))] = region["value"].get("labels")
    return found


def _drawing(kind: str, value: dict[str, Any], height: int, width: int) -> Drawing | None:
    if kind.startswith("polygon"):
        points = tuple(float(part) / 100 for point in value["points"] for part in point)
        return Polygons((points,), relative=True)
    if kind.startswith("brush"):
        return Brush(bytes(list(value["rle"])), (height, width))
    if kind.startswith("rectangle"):
        x, y = float(value["x"]) * width / 100, float(value["y"]) * height / 100
        across, down = float(value["width"]) * width / 100, float(value["height"]) * height / 100
        return _turned_about_corner(x, y, across, down, float(value.get("rotation") or 0))
    if kind.startswith("ellipse"):
        centre = float(value["x"]) * width / 100, float(value["y"]) * height / 100
        radii = float(value["radiusX"]) * width / 100, float(value["radiusY"]) * height / 100
        return Ellipse(centre, radii, float(value.get("rotation") or 0))
    return None


def _turned_about_corner(x: float, y: float, across: float, down: float, degrees: float) -> Polygons:
    """A rectangle turned clockwise about its upper left corner, as Label Studio does."""
    turn = np.deg2rad(degrees)
    points: list[float] = []
    for right, below in ((0.0, 0.0), (across, 0.0), (across, down), (0.0, down)):
        points += [
            x + right * float(np.cos(turn)) - below * float(np.sin(turn)),
            y + right * float(np.sin(turn)) + below * float(np.cos(turn)),
        ]
    return Polygons((tuple(points),)) if degrees else turned_box(x, y, x + across, y + down, 0.0)
