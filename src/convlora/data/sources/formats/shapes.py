"""What people draw on an image, and the semantic map that it makes."""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from convlora.data.reading.images import read_image_size
from convlora.data.reading.stored import ImageSource
from convlora.data.sample import Sample, size_mismatch_message
from convlora.data.sources.drawing import outline_runs, traced_pixels
from convlora.errors import InputError, shown

_MOST_PIXELS = 1 << 27
_LARGEST_PNG = 1 << 27  # bytes of one drawn bitmap, unpacked
_FAR = 1e9  # pixels
_MOST_STEPS = 1 << 31
_WHOLE = 0.01  # pixels that a whole number may be off
_ROUNDED = 6e-6  # what fractions of five digits are off


class Drawing(Protocol):
    """The area of one object."""

    def pixels(self, height: int, width: int) -> np.ndarray:
        """Its pixels, `(H, W)` bool.

        Raises:
            ValueError: It cannot be drawn; the message is a clause.
        """


@dataclass(frozen=True)
class Polygons:
    """Areas inside some polygons but outside others.

    Args:
        parts: Corners x, y, x, y, ... of each, in pixels.
        holes: Likewise.
        relative: Whether coordinates are fractions of the image's width and height.
        traced: Whether corners that are all whole numbers are pixels, which belong to the area. Tools that trace masks
            write such, and take them so when they draw them.
    """

    parts: tuple[tuple[float, ...], ...]
    holes: tuple[tuple[float, ...], ...] = ()
    relative: bool = False
    traced: bool = False

    def pixels(self, height: int, width: int) -> np.ndarray:
        """See [`Drawing`]."""
        inside = self._inside(self.parts, height, width)
        for hole in self.holes:
            inside &= ~self._inside((hole,), height, width)
        return inside

    def _inside(self, parts: tuple[tuple[float, ...], ...], height: int, width: int) -> np.ndarray:
        from pycocotools import mask as coco_mask

        scale = np.array([width, height], np.float64) if self.relative else np.ones(2)
        rounding = _WHOLE + (_ROUNDED * scale if self.relative else 0)
        drawn, found = [], np.zeros((height, width), bool)
        for part in parts:
            if len(part) % 2:
                raise ValueError("a polygon has an odd number of coordinates")
            points = np.asarray(part, np.float64).reshape(-1, 2) * scale
            # Drawing takes time by corners and rows.
            is_usual = len(points) >= 3 and np.abs(points).max() < _FAR and len(points) * height < _MOST_STEPS
            if self.traced and is_usual and (np.abs(points - points.round()) <= rounding).all():
                found |= traced_pixels(points, height, width)
            else:
                drawn.append(points.ravel())
        runs, _ = outline_runs(drawn, height, width)
        return found | np.array(coco_mask.decode(runs), dtype=bool)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse with axes along those of the image, turned by an angle.

    Args:
        centre: (x, y) in pixels.
        radii: (x, y) in pixels.
        angle: Degrees, clockwise as seen.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float = 0.0

    def pixels(self, height: int, width: int) -> np.ndarray:
        """See [`Drawing`]; a pixel counts if its middle is inside."""
        numbers = np.array([*self.centre, *self.radii, self.angle], np.float64)
        if not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e9:
            raise ValueError("its circle has no usable middle or radius")
        x, y, across, down, angle = numbers
        if across <= 0 or down <= 0:
            return np.zeros((height, width), bool)
        turn = np.deg2rad(angle)
        columns = np.arange(width)[None, :] + 0.5 - x
        rows = np.arange(height)[:, None] + 0.5 - y
        along = (columns * np.cos(turn) + rows * np.sin(turn)) / across
        beside = (rows * np.cos(turn) - columns * np.sin(turn)) / down
        return np.array(along**2 + beside**2 <= 1)


@dataclass(frozen=True)
class Bitmap:
    """A PNG file in text, with its place in the image.

    Args:
        text: Base64 of the file.
        corner: (x, y) of its first pixel.
        packed: Whether the file is compressed by zlib once more, as Supervisely does.
    """

    text: str
    corner: tuple[float, float]
    packed: bool = False

    def pixels(self, height: int, width: int) -> np.ndarray:
        """See [`Drawing`]; what lies outside of the image is left out."""
        try:
            content = base64.b64decode(self.text, validate=False)
            if self.packed:
                unpacker = zlib.decompressobj()
                content = unpacker.decompress(content, _LARGEST_PNG)
                if unpacker.unconsumed_tail:
                    raise ValueError("its bitmap is absurdly large")
            with Image.open(io.BytesIO(content), formats=("PNG",)) as opened:
                if opened.width * opened.height > _MOST_PIXELS:
                    raise ValueError("its bitmap is absurdly large")
                inside = _inside_png(opened)
        except (binascii.Error, zlib.error, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError("its bitmap is damaged") from error
        return _placed(inside, self.corner, height, width)


def _inside_png(opened: Image.Image) -> np.ndarray:
    """Which pixels of a bitmap belong to the object: what is not transparent, or not black if nothing can be."""
    if opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
        return np.asarray(opened.convert("RGBA"))[..., 3] > 0
    values = np.asarray(opened)
    return np.array(values if values.ndim == 2 else values.max(axis=-1), dtype=bool)


@dataclass(frozen=True)
class Runs:
    """Lengths of runs of 0 and 1 in turn, row by row, within a rectangle, as CVAT writes masks.

    Args:
        counts: The lengths.
        corner: (x, y) of the rectangle.
        size: Its (height, width).
    """

    counts: tuple[int, ...]
    corner: tuple[float, float]
    size: tuple[int, int]

    def pixels(self, height: int, width: int) -> np.ndarray:
        """See [`Drawing`]; what lies outside of the image is left out."""
        rows, columns = self.size
        if rows <= 0 or columns <= 0 or rows * columns > _MOST_PIXELS:
            raise ValueError("its mask has no usable size")
        counts = self.counts
        if any(count < 0 for count in counts) or sum(counts) > rows * columns:
            raise ValueError(f"its run lengths do not fit its {columns}x{rows} pixels")
        values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        inside = np.zeros(rows * columns, bool)
        inside[: len(values)] = values  # the last run of zeros may be left out
        return _placed(inside.reshape(rows, columns), self.corner, height, width)


def _placed(inside: np.ndarray, corner: tuple[float, float], height: int, width: int) -> np.ndarray:
    """A small mask at its place in the image."""
    if not np.isfinite(corner).all() or max(map(abs, corner)) > 1e9:
        raise ValueError("its mask has no usable place")
    left, top = (round(one) for one in corner)
    drawn = np.zeros((height, width), bool)
    first_row, first_column = max(top, 0), max(left, 0)
    last_row, last_column = min(top + inside.shape[0], height), min(left + inside.shape[1], width)
    if last_row > first_row and last_column > first_column:
        piece = inside[first_row - top : last_row - top, first_column - left : last_column - left]
        drawn[first_row:last_row, first_column:last_column] = piece
    return drawn


@dataclass(frozen=True)
class Shape:
    """One object.

    Args:
        label: Class index, or the ignore value.
        drawing: Its area.
        name: What it is called in messages.
    """

    label: int
    drawing: Drawing
    name: str


@dataclass(frozen=True)
class ShapesMask:
    """The semantic map of an image on which objects are drawn.

    Args:
        path: The file of annotations.
        file: The image.
        shapes: The objects, in the order of the file.
        size: (height, width) that the file states; None: it states none.
        smaller_on_top: Whether smaller objects lie above larger ones; else later ones above earlier ones.
        unseen: Which objects draw no pixel, as far as `load` has drawn them; known only afterwards.
    """

    path: Path
    file: ImageSource
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None
    smaller_on_top: bool = False
    unseen: dict[int, str] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        name = self.file.name if isinstance(self.file, Path) else str(self.file)
        return f"{self.path} (annotations of {name})"

    def load(self) -> Image.Image:
        """Draws the map.

        Raises:
            InputError: An object cannot be drawn, or the stated size is not that of the image.
        """
        height, width = self._size()
        deep = any(shape.label > 255 for shape in self.shapes)
        drawn: list[tuple[int, np.ndarray, int]] = []
        classes = np.zeros((height, width), np.uint16 if deep else np.uint8)
        for place, shape in enumerate(self.shapes):
            try:
                inside = shape.drawing.pixels(height, width)
            except (ValueError, TypeError, OverflowError) as error:
                raise InputError(f"{self}: {shape.name} cannot be drawn ({shown(error)}). Correct or remove it.") from (
                    error
                )
            area = int(inside.sum())
            if not area:
                self.unseen[place] = shape.name
            elif self.smaller_on_top:  # packed: maps of a thousand objects would take a thousand times the memory
                drawn.append((area, np.packbits(inside), shape.label))
            else:
                classes[inside] = shape.label
        for _, packed, label in sorted(drawn, key=lambda entry: -entry[0]):
            classes[np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)] = label
        return Image.fromarray(classes)

    def _size(self) -> tuple[int, int]:
        try:
            own = read_image_size(self.file)
        except InputError:
            if self.size is None:
                raise
            own = None  # said when the image is read
        size = self.size or own
        assert size is not None, "the image states one"  # noqa: S101
        if min(size) <= 0 or size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or _MOST_PIXELS):
            raise InputError(f"{self} states {size[1]}x{size[0]} pixels, which cannot be drawn. Export it again.")
        # One that is turned takes no more memory.
        if own is not None and size not in (own, own[::-1]):
            raise InputError(size_mismatch_message(Sample(self.file, self, ""), own, size))
        return size
