"""How long the reading of a window takes that is cut from a photograph, in the order of a training.

    python benchmarks/window_reading.py
    PYTHONPATH=OTHER/src python benchmarks/window_reading.py    # of another version

The photographs are drawn on the spot. With `--processes N` it reads what one of N reading processes would read.
"""

from __future__ import annotations

import argparse
import inspect
import json
import tempfile
import time
from itertools import islice
from pathlib import Path

from gpu_parts.photographs import write_photographs
from harness import conditions

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import EpochSampler, SegmentationDataset
from convlora.data.sample import Sample
from convlora.data.windows import Windows

_BATCH = 4


def main() -> None:
    """Draws the photographs, reads windows and prints what it took."""
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = write_photographs(Path(name) / "data", options.drawn, 0, (options.height, options.width)) / "train"
        files = [(folder / "images" / f"{n:03d}.jpg", folder / "masks" / f"{n:03d}.png") for n in range(options.drawn)]
        samples = [Sample(*files[number % options.drawn], str(number)) for number in range(options.images)]
        window = options.window, options.window
        windows = Windows.over(samples, window)
        classes = ClassTable(("background", "foreground"), label_map=((0, 0), (255, 1)))
        dataset = SegmentationDataset(samples, classes, window, windows=windows)
        knows_windows = "windows" in inspect.signature(EpochSampler).parameters
        sampler = EpochSampler(len(dataset), seed=0, **({"windows": windows} if knows_windows else {}))
        own = (key for place, key in enumerate(sampler) if place // _BATCH % options.processes == 0)
        begin, used = time.perf_counter(), time.process_time()
        read = [dataset[key]["labels"].numel() for key in islice(own, options.count)]
        record = {
            "seconds_per_window": round((time.perf_counter() - begin) / len(read), 4),
            "cpu_seconds_per_window": round((time.process_time() - used) / len(read), 4),
            **vars(options),
            "conditions": conditions(),
        }
    print(json.dumps(record))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40, help="how many the data set has")
    parser.add_argument("--drawn", type=int, default=8, help="how many of them differ")
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--count", type=int, default=120, help="windows to read")
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
