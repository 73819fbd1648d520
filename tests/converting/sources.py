"""Small data sets as other tools write them, drawn by code."""

import json

import numpy as np
from PIL import Image

SIZE = (30, 40)  # (height, width)
CORNERS = [(5.0, 4.0), (25.0, 4.0), (25.0, 20.0), (5.0, 20.0)]
INSIDE = np.zeros(SIZE, bool)
INSIDE[4:20, 5:25] = True


def image(path, seed=0, size=SIZE, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, **save)
    return path


def mask(path, values, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if palette is not None:
        picture = Image.frombytes("P", picture.size, picture.tobytes())
        picture.putpalette(palette)
    picture.save(path)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def yolo(root, splits=("train", "valid", "test"), number=2):
    names = "\n".join(f"  {place}: {name}" for place, name in enumerate(("crack", "hole")))
    paths = "".join(f"{'val' if split == 'valid' else split}: ../{split}/images\n" for split in splits)
    text(root / "data.yaml", f"{paths}nc: 2\nnames:\n{names}\n")
    points = " ".join(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in CORNERS)
    for place, split in enumerate(splits):
        for one in range(number):
            image(root / split / "images" / f"{one}.jpg", place)
            text(root / split / "labels" / f"{one}.txt", f"1 {points}\n")
    return root


def read(folder):
    """Stem and values of each mask of a data folder."""
    return {path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in sorted(folder.rglob("masks/*"))}
