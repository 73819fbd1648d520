"""A small clean data set to spoil, and what a user is told about it afterwards."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convlora.data.check import check_data
from convlora.data.sources import open_data
from convlora.errors import InputError
from tests.data.images_on_disk import noise, save, write_set

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


class Case(NamedTuple):
    """A way to spoil the data, and every sentence that follows from it."""

    name: str
    spoil: Callable[[Data], object]
    findings: list[str]


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


def _png(width: int, height: int, depth: int, colour_type: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def findings(root: Path | str, place: Path | None = None) -> list[str]:
    """What the full check says, one `severity: message` after the other; `DATA` stands for the folder."""
    try:
        report = check_data(open_data(root), full=True)
    except InputError as error:
        found = [f"refused: {error}"]
    else:
        found = [f"{problem.severity}: {problem.message}" for problem in report.problems]
    return [text.replace(str(place or root), "DATA") for text in found]


__all__ = [
    "LOSSLESS", "Case", "Data", "coloured", "cut", "findings", "noise", "photo", "png", "png_of_size", "put", "save",
    "stripes",
]  # fmt: skip
