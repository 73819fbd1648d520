"""The picture of the README, from a finished quickstart.

python scripts/readme_picture.py convlora-quickstart docs/quickstart.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from convlora.inference.files.jobs import picture
from convlora.inference.segmenter import Segmenter
from convlora.quickstart import quickstart_config, untrained
from convlora.training.usable_data import load_data

SHOWN, SIDE, GAP = 3, 200, 6


def main() -> None:
    """Lays out rows of image, truth, before, without and with the detail branch."""
    folder, target = map(Path, sys.argv[1:3])
    config = quickstart_config(folder / "data", detail="none")
    before, samples, _ = untrained(config, load_data(config, lambda _: None))
    runs = [Segmenter.from_run(folder / name) for name in ("run-without-detail", "run")]
    sheet = Image.new("RGB", (5 * SIDE + 4 * GAP, SHOWN * SIDE + (SHOWN - 1) * GAP), "white")
    for row, sample in enumerate(samples[1 : SHOWN + 1]):
        image = Image.open(sample.image).convert("RGB")
        truth = (np.asarray(Image.open(sample.mask)) > 0).astype(np.uint8)
        maps = (truth, *(segmenter.predict(image).semantic_map for segmenter in (before, *runs)))
        for column, panel in enumerate([image, *(picture(image, each, before.classes) for each in maps)]):
            sheet.paste(panel.resize((SIDE, SIDE)), (column * (SIDE + GAP), row * (SIDE + GAP)))
    sheet.quantize(128).save(target, optimize=True)


if __name__ == "__main__":
    main()
