"""Memory and time of `convlora predict` for images of growing size, each in a process of its own (on Linux).

python benchmarks/large_images.py RUN --size 256 2500 5000 10000 --output benchmarks/results/large_images.json

Draws a tiled GeoTIFF for each size, so it needs the extra `geo`, and some space in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from harness import add_output, report
from rasterio.windows import Window

from convlora.data.synthetic.textures import bank

BLOCK = 512  # pixels, the side of the textures


def main() -> None:
    """Measures every size with every set of options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--size", type=int, nargs="+", default=[256, 2500, 5000, 10000], help="pixels a side")
    parser.add_argument(
        "--options",
        nargs="+",
        default=["--tile --batch-size 4", "--tile-size 1024", "--tile-size 1024 --overlay"],
        help="of convlora predict",
    )
    parser.add_argument("--device", default="cpu")
    add_output(parser)
    options = parser.parse_args()
    rows = []
    for size in options.size:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "image.tif"
            draw(image, size)
            for more in options.options:
                start = time.perf_counter()
                peak = predict(
                    options.run, image, Path(folder) / "results", [*more.split(), "--device", options.device]
                )
                seconds = time.perf_counter() - start
                megabytes = image.stat().st_size / 1e6
                rows.append({"side": size, "file MB": megabytes, "options": more, "peak MB": peak, "seconds": seconds})
    report("Large images", rows, options.output)


def draw(path: Path, side: int) -> None:
    """A tiled GeoTIFF of one texture, again and again, under noise."""
    rng = np.random.default_rng(0)
    block = bank()[:3]
    block = 200 * (block - block.min()) / np.ptp(block)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "tiled": True}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5200000)}
    with rasterio.open(path, "w", **profile, **place) as file:
        for top in range(0, side, BLOCK):
            for left in range(0, side, BLOCK):
                height, width = min(BLOCK, side - top), min(BLOCK, side - left)
                pixels = block[:, :height, :width] + rng.integers(0, 50, (3, height, width))
                file.write(pixels.astype(np.uint8), window=Window(left, top, width, height))


def predict(run: Path, image: Path, output: Path, more: list[str]) -> float:
    """Segments one image and returns the peak resident memory of the process in MB."""
    code = (
        "import pathlib, sys; from convlora.cli.main import run\n"
        "try: run(sys.argv[1:])\n"
        # What getrusage says starts with the memory of the process that started this one.
        "finally: print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    command = [sys.executable, "-c", code, "predict", str(run), str(image), "--output", str(output), *more]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(result.stdout.split()[-1]) / 1e3


if __name__ == "__main__":
    main()
