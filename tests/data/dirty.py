"""A small clean data set to spoil, and what a user is told about it afterwards."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convlora.data.checking.check import check_data
from convlora.data.sources.opening import open_data
from convlora.errors import InputError, printable
from tests.data.images_on_disk import noise, save, write_set

# All masks of the clean data.
MASKS = (*(f"train/masks/{number}.png" for number in range(4)), "val/masks/0.png")
LOSSLESS = {".webp": {"lossless": True}, ".jpg": {"quality": 95}}


@dataclass
class Data:
    """Four training images and one for validation, 16 pixels wide and 12 high, with masks of zeros and ones."""

    root: Path

    @classmethod
    def clean(cls, root: Path, **counts: int) -> Data:
        return cls(write_set(root, counts or {"train": 4, "val": 1}))

    def image(self, name: str = "1.png", split: str = "train") -> Path:
        return self.root / split / "images" / name

    def mask(self, name: str = "1.png", split: str = "train") -> Path:
        return self.root / split / "masks" / name

    def put_image(self, values: np.ndarray | Image.Image, suffix: str = ".png", **options: object) -> Path:
        """Stores other values in the place of the second training image."""
        self.image().unlink()
        return put(self.image(f"1{suffix}"), values, **options)

    def put_mask(self, values: np.ndarray | Image.Image, suffix: str = ".png", **options: object) -> Path:
        self.mask().unlink()
        return put(self.mask(f"1{suffix}"), values, **options)

    def put_masks(self, values: np.ndarray | Image.Image, suffix: str = ".png", **options: object) -> None:
        """Stores the same in the place of every mask."""
        for path in sorted(self.root.glob("*/masks/*")):
            path.unlink()
            put(path.with_suffix(suffix), values, **options)

    def classes(self, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (self.root / "classes.json").write_text(text, encoding="utf-8")

    def table(self, text: str, name: str = "train.csv", encoding: str = "utf-8") -> None:
        (self.root / name).write_bytes(text.encode(encoding))


class Finding(NamedTuple):
    """What has to be said of the data: not in which words, but with which facts.

    Args:
        severity: That of the problem, or `"refused"` where the data are not even listed.
        kind: That of the problem; the sentence of a refusal has none.
        path: The file or folder at fault, seen from the data.
        facts: What the sentence has to hold: other files, values, the remedy. `test_sentences.py` has whole ones.
    """

    severity: str
    kind: str
    path: str
    facts: tuple[str, ...]


class Found(NamedTuple):
    """What was said of the data, paths seen from their folder; `message` is the whole sentence."""

    severity: str
    kind: str
    path: str
    message: str

    def is_as(self, expected: Finding) -> bool:
        """Whether this is what had to be found."""
        if (self.severity, self.kind) != (expected.severity, expected.kind):
            return False
        # Sentences shorten names of hundreds of signs, and call what a list names as the list does.
        names_it = "DATA" if expected.path == "." else printable(expected.path)[:50]
        names_it = (
            names_it.removeprefix("images/") if expected.facts and names_it.endswith(expected.facts[0]) else names_it
        )
        is_it = self.severity == "refused" or self.path == expected.path
        return is_it and all(fact in self.message for fact in (names_it, *expected.facts))


def error(kind: str, path: str, *facts: str) -> Finding:
    return Finding("error", kind, path, facts)


def warning(kind: str, path: str, *facts: str) -> Finding:
    return Finding("warning", kind, path, facts)


def refused(path: str, *facts: str) -> Finding:
    return Finding("refused", "", path, facts)


class Case(NamedTuple):
    """A way to spoil the data, and all that has to be found then, in this order."""

    name: str
    spoil: Callable[[Data], object]
    findings: list[Finding]


def put(path: Path, values: np.ndarray | Image.Image, **options: object) -> Path:
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(path, **options)
    return path


def cut(path: Path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def stripes(*values: int, kind: type = np.uint8) -> np.ndarray:
    """A mask of 12 x 16 that holds each of the values."""
    return np.resize(np.array(values, dtype=kind), (12, 16))


def coloured(*colours: tuple[int, ...]) -> np.ndarray:
    return np.resize(np.array(colours, dtype=np.uint8), (12, 16, len(colours[0])))


def photo(suffix: str, seed: int = 5) -> tuple[np.ndarray, str, dict[str, object]]:
    return noise(seed), suffix, LOSSLESS.get(suffix, {})


def png_of_size(width: int, height: int) -> bytes:
    """A PNG file whose header states a size and that holds next to nothing."""
    return _png(width, height, 8, 2, bytes(64))


def png(width: int, height: int, depth: int, colour_type: int, rows: np.ndarray) -> bytes:
    """A PNG file of a kind that Pillow does not write.

    Args:
        width: In pixels.
        height: In pixels.
        depth: Bits of a value.
        colour_type: Its number in the header.
        rows: `(height, bytes of a row)`.
    """
    return _png(width, height, depth, colour_type, b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in rows))


def deep_png(values: np.ndarray) -> bytes:
    """A PNG file of 16 bits in several channels, `(H, W, 2, 3 or 4)`."""
    height, width, channels = values.shape
    return png(width, height, 16, {2: 4, 3: 2, 4: 6}[channels], values.astype(">u2").view(np.uint8).reshape(height, -1))


def _png(width: int, height: int, depth: int, colour_type: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def findings(root: Path | str, place: Path | None = None) -> list[Found]:
    """What the full check says, one problem after the other; `DATA` stands for the folder."""
    folder = str(place or root)
    try:
        report = check_data(open_data(root), full=True)
    except InputError as refusal:
        return [Found("refused", "", "", str(refusal).replace(folder, "DATA"))]
    return [
        Found(
            problem.severity,
            problem.kind,
            problem.path.replace(folder, "DATA").removeprefix("DATA/").replace("DATA", "."),
            problem.message.replace(folder, "DATA"),
        )
        for problem in report.problems
    ]


def unlike(found: list[Found], expected: list[Finding]) -> list[tuple[Found | None, Finding | None]]:
    """Pairs of what was found and what had to be that do not fit, in the order of both."""
    return [
        (one, other)
        for one, other in zip_longest(found, expected)
        if one is None or other is None or not one.is_as(other)
    ]


__all__ = [
    "LOSSLESS", "MASKS", "Case", "Data", "Finding", "Found", "coloured", "cut", "error", "findings", "noise", "photo",
    "png", "png_of_size", "put", "refused", "save", "stripes", "unlike", "warning",
]  # fmt: skip
