"""Turns a binary data set into one of three classes: background, inside, and border of what is there.

python scripts/border_classes.py DATA --output NEW --width 2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from convlora.data.checking.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.sources.opening import open_data


def main() -> None:
    """Writes the images and the masks of three classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--width", type=int, default=2, help="of the border, in pixels inside the object")
    options = parser.parse_args()
    source = open_data(options.data)
    classes = check_data(source, full=False).classes
    if classes is None or classes.num_classes != 2:
        raise SystemExit(f"{options.data} is not a binary data set.")
    for split, samples in source.splits.items():
        for kind in ("images", "masks"):
            (options.output / split / kind).mkdir(parents=True, exist_ok=True)
        for sample in samples:
            image, labels = read_sample(sample, classes)
            inside = binary_erosion(labels == 1, iterations=options.width, border_value=1)
            three = np.where(labels == 1, np.where(inside, 1, 2), labels).astype(np.uint8)
            image.save(options.output / split / "images" / f"{sample.name}.png")
            Image.fromarray(three).save(options.output / split / "masks" / f"{sample.name}.png")
    names = [classes.names[0], f"{classes.names[1]} inside", f"{classes.names[1]} border"]
    table = {"classes": names, "ignore_index": classes.ignore_index}
    (options.output / "classes.json").write_text(json.dumps(table), encoding="utf-8")


if __name__ == "__main__":
    main()
