"""Memory and time of measuring the objects of a large mask, as `convlora predict --objects --polygons` does.

    python benchmarks/objects.py --size 8000 [--kind blobs|specks|one] [--polygons geojson|coco|none]

A mask is drawn band by band and measured; nothing is predicted. It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.geo import GeoReference
from convlora.inference.files.extra_files import open_extras
from convlora.inference.files.extras import Extras
from convlora.inference.files.of_all import write_files_of_all
from convlora.inference.files.pieces import piece_of
from convlora.inference.files.plan import Job

BAND = 512
CLASSES = ClassTable(("background", "thing"))


def band_of(kind: str, top: int, height: int, width: int) -> np.ndarray:
    """Some rows of a mask: smooth blobs of about 40 pixels, single pixels, or one net that spans all."""
    generator = np.random.default_rng(top)
    if kind == "specks":
        return (generator.random((height, width)) < 0.05).astype(np.uint8)
    coarse = generator.normal(size=(height // 32 + 2, width // 32 + 2)).astype(np.float32)
    smooth = zoom(coarse, 32, order=1)[:height, :width]
    if kind == "one":
        return (smooth > -0.6).astype(np.uint8)
    return (smooth > 0.5).astype(np.uint8)


def main() -> None:
    """Measures once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=8000)
    parser.add_argument("--kind", choices=["blobs", "specks", "one"], default="blobs")
    parser.add_argument("--polygons", choices=["geojson", "coco", "none"], default="none")
    parser.add_argument("--no-reference", action="store_true", help="An image without coordinates.")
    given = parser.parse_args()
    reference = None
    if not given.no_reference:
        import rasterio

        place = rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5200000)
        reference = GeoReference(rasterio.CRS.from_epsg(32633), place)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    polygons = None if given.polygons == "none" else given.polygons
    extras = Extras(objects=True, polygons=polygons)
    size = (given.size, given.size)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        job = Job(
            output / "a.tif",
            output / "a.png",
            None,
            polygons=output / "a.geojson" if polygons == "geojson" else None,
            piece=piece_of(output, "a"),
        )
        drawing, begin = 0.0, time.process_time()
        with open_extras(job, size, CLASSES, extras, reference) as files:
            for top in range(0, given.size, BAND):
                drawn = time.process_time()
                rows = band_of(given.kind, top, min(BAND, given.size - top), given.size)
                probability = np.full(rows.shape, 0.75, np.float32)
                drawing += time.process_time() - drawn
                files.add(rows, None, probability, None)
        write_files_of_all(output, CLASSES, ["a"], [piece_of(output, "a")], extras)
        seconds = time.process_time() - begin - drawing
        written = {path.name: path.stat().st_size for path in sorted(output.iterdir())}
    found = {
        **vars(given),
        "objects": files.objects,
        "cpu_seconds": round(seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "before_mb": round(before / 1024),
        "files_mb": {name: round(size / 1e6, 1) for name, size in written.items()},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
