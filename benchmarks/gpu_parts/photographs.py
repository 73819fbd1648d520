"""Photographs and masks drawn on the spot, of the size and the cost of reading of real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_photographs(folder: Path, train: int, others: int, size: tuple[int, int]) -> Path:
    """Writes `{train,val,test}/{images,masks}/`: JPEG photographs and PNG masks.

    Args:
        folder: Where to write.
        train: How many to train on.
        others: How many to validate, and as many to test on.
        size: (height, width) in pixels.
    """
    for number, (split, count) in enumerate((("train", train), ("val", others), ("test", others))):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(count):
            image, mask = draw_photograph(size, np.random.default_rng((number, index)))
            Image.fromarray(image).save(folder / split / "images" / f"{index:03d}.jpg", quality=92)
            Image.fromarray(mask).save(folder / split / "masks" / f"{index:03d}.png")
    return folder


def draw_photograph(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Smooth colours with a sensor's noise, `(H, W, 3)`, and brighter regions with their mask, `(H, W)`: 0 and 255."""
    height, width = size
    colours = _enlarged(rng.integers(40, 180, (8, 12, 3), dtype=np.uint8), size)
    mask = np.where(_enlarged(rng.integers(0, 256, (6, 9), dtype=np.uint8), size) > 160, 255, 0).astype(np.uint8)
    noise = rng.integers(-12, 13, (height, width, 1))
    image = colours.astype(np.int16) + noise + (mask[..., None] > 0) * np.array([50, 20, 0])
    return image.clip(0, 255).astype(np.uint8), mask


def _enlarged(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC))
