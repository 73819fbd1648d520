"""Small images, masks and data sets written for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def noise(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_set(
    root: Path,
    counts: dict[str, int],
    *,
    values: tuple[int, ...] = (0, 1),
    height: int = 12,
    width: int = 16,
) -> Path:
    """Writes the folder layout with PNG files 0, 1, ... whose masks hold each of `values` in a stripe."""
    stripe = np.repeat(np.array(values, dtype=np.uint8), -(-width // len(values)))[:width]
    mask = np.tile(stripe, (height, 1))
    for number, (split, count) in enumerate(counts.items()):
        for index in range(count):
            save(root / split / "images" / f"{index}.png", noise(1000 * number + index, height, width))
            save(root / split / "masks" / f"{index}.png", mask)
    return root
