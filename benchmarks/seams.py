"""How far the windows of a large image agree, by overlap: pixels whose class differs from what much more overlap gives.

python benchmarks/seams.py RUN DATA --split test --output benchmarks/results/seams.json

Images are continued by their mirror image on all sides until they hold 3.3 windows a side, so that ordinary data sets
will do; the answer is compared with the masks where the image itself is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import add_output, report

from convlora import Segmenter
from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import read_sample
from convlora.data.sources.opening import open_data
from convlora.inference.windows import Axis, Grid

NEAR = 8  # pixels from a seam


def main() -> None:
    """Compares overlaps on the images of one split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--overlap", type=float, nargs="+", default=[0.0, 0.125, 0.25, 0.5])
    parser.add_argument("--reference", type=float, default=0.8, help="the overlap that the others are compared with")
    parser.add_argument("--images", type=int, default=20, help="at most so many")
    parser.add_argument("--device", default="auto")
    add_output(parser)
    options = parser.parse_args()
    segmenter = Segmenter.from_run(options.run, device=options.device)
    samples = open_data(options.data).split(options.split)[: options.images]
    pairs = [read_sample(one, segmenter.classes, segmenter.intensity) for one in samples]
    images, labels = [np.asarray(image) for image, _ in pairs], [truth for _, truth in pairs]
    margins = [missing(image.shape, segmenter.image_size) for image in images]
    scenes = [np.pad(image, (*margin, (0, 0)), mode="symmetric") for image, margin in zip(images, margins)]

    def segment(overlap: float) -> list[np.ndarray]:
        return [segmenter.predict_tiled(scene, overlap=overlap, batch_size=8) for scene in scenes]

    judge, rows = segment(options.reference), []
    for overlap in [*options.overlap, options.reference]:
        maps = judge if overlap == options.reference else segment(overlap)
        grids = [Grid.over(one.shape, segmenter.image_size, overlap) for one in maps]
        wrong = [one != other for one, other in zip(maps, judge)]
        near = [close_to_seams(grid) for grid in grids]
        own = [one[margin[0][0] :, margin[1][0] :] for one, margin in zip(maps, margins)]
        rows.append(
            {
                "overlap": overlap,
                "windows": sum(map(len, grids)),
                "differ %": percent(wrong),
                f"within {NEAR} of a seam %": percent([one[where] for one, where in zip(wrong, near)]),
                "changes across seams %": percent(changes(maps, grids)),
                "changes anywhere %": percent(changes(maps, None)),
                "IoU": float(np.mean([foreground_iou(*pair, segmenter.classes) for pair in zip(own, labels)])),
            }
        )
    height, width = segmenter.image_size
    report(f"Windows of {width} by {height} pixels against an overlap of {options.reference}", rows, options.output)


def missing(size: Sequence[int], window: Sequence[int]) -> list[tuple[int, int]]:
    """How many pixels to add above and below, left and right of an image."""
    more = [max(0, round(3.3 * side) - length) for side, length in zip(window, size)]
    return [(one // 2, one - one // 2) for one in more]


def seams(axis: Axis) -> list[int]:
    """Where one window begins to count more than the one before."""
    return [(stop + start) // 2 for stop, start in zip(axis.stops, axis.starts[1:])]


def close_to_seams(grid: Grid) -> np.ndarray:
    """Which pixels are."""
    down, across = (
        np.isin(np.arange(axis.length), [one + shift for one in seams(axis) for shift in range(-NEAR, NEAR)])
        for axis in (grid.down, grid.across)
    )
    return down[:, None] | across[None]


def changes(maps: Sequence[np.ndarray], grids: Sequence[Grid] | None) -> list[np.ndarray]:
    """Where the class of neighbouring pixels differs: those on both sides of a seam, or all."""
    found = []
    for index, one in enumerate(maps):
        for axis, turned in enumerate((one, one.T)):
            differ = turned[1:] != turned[:-1]
            if grids is not None:
                differ = differ[[place - 1 for place in seams((grids[index].down, grids[index].across)[axis])]]
            found.append(differ)
    return found


def foreground_iou(semantic_map: np.ndarray, labels: np.ndarray, classes: ClassTable) -> float:
    """Of all that is not background, whatever its class; 1 if there is nothing and nothing is found."""
    height, width = labels.shape
    counted = labels != classes.ignore_index
    found, there = semantic_map[:height, :width] != classes.background, labels != classes.background
    union = (found | there)[counted].sum()
    return float((found & there)[counted].sum() / union) if union else 1.0


def percent(parts: Sequence[np.ndarray]) -> float:
    """Share of all pixels."""
    return 100 * sum(part.sum() for part in parts) / sum(part.size for part in parts)


if __name__ == "__main__":
    main()
