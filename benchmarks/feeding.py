"""Images per second of whole commands on photographs of 12 megapixels, before and after a change.

python benchmarks/feeding.py --other /path/to/another/checkout/src --output benchmarks/results/feeding.json

Every command runs in a process of its own, in turn with the same command of the other checkout. What a command takes
with one image is subtracted: it loads the program and the model. Both checkouts must give the same pixels and scores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gpu_parts.photographs import draw_photograph
from harness import ROOT, add_output, report, summarise
from PIL import Image

LARGE, SMALL = (3000, 4000), (192, 256)
START = "from convlora import Segmenter; import sys; Segmenter.from_run(sys.argv[1])"
TASKS = {
    "predict": ("predict", ()),
    "predict --overlay": ("predict", ("--overlay",)),
    "evaluate": ("evaluate", ()),
    "start": ("start", ()),
}


class Spent(NamedTuple):
    """What a process took, in seconds."""

    wall: float
    cpu: float


def main() -> None:
    """Measures every task with every checkout, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, nargs="*", default=[], help="the folder src of other checkouts")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="where the photographs and the run are kept; default: nowhere")
    add_output(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) if options.data is None else options.data
        run = prepare(root, options.images)
        report("Feeding", measure(options, root, run, Path(temporary)), options.output, images=options.images)


def measure(options: argparse.Namespace, root: Path, run: Path, temporary: Path) -> list[dict[str, Any]]:
    """A row for every task and checkout."""
    sources = {"this": ROOT / "src", **{f"other {n}": path for n, path in enumerate(options.other, start=1)}}
    rows = []
    for task in options.tasks:
        many: dict[str, list[Spent]] = {name: [] for name in sources}
        single: dict[str, list[Spent]] = {name: [] for name in sources}
        for number in range(options.rounds):
            for name, source in sources.items():
                place = temporary / f"{task} {number} {name}"
                if task != "start":
                    many[name].append(spent(command(task, run, root / "many", place / "many"), source))
                single[name].append(spent(command(task, run, root / "one", place / "one"), source))
            if task != "start":
                check_same([temporary / f"{task} {number} {name}" / "many" for name in sources])
        for name in sources:
            rows.append(row_of(task, name, options.images, many[name], single[name]))
    return rows


def row_of(task: str, name: str, images: int, many: list[Spent], single: list[Spent]) -> dict[str, Any]:
    """The figures of one task and checkout: medians, and the spread of the rates."""
    row: dict[str, Any] = {"task": task, "checkout": name}
    for kind in Spent._fields:
        start = summarise(getattr(one, kind) for one in single)["median"]
        row[f"{kind} s to start"] = start
        if many:
            seconds = summarise(getattr(one, kind) for one in many)
            row[f"{kind} s"] = seconds["median"]
            each = {key: (value - start) / (images - 1) for key, value in seconds.items()}
            row[f"{kind} s per image"] = each["median"]
            row[f"images per {kind} s"] = 1 / each["median"]
            row[f"spread ({kind})"] = f"{1 / each['max']:.3g} to {1 / each['min']:.3g}"
    return row


def command(task: str, run: Path, data: Path, output: Path) -> list[str]:
    """What to run."""
    name, more = TASKS[task]
    if name == "start":
        return ["-c", START, str(run)]
    words = ["-m", "convlora.cli.main", name, str(run)]
    words += [str(data / "test" / "images" if name == "predict" else data), "--output", str(output)]
    return [*words, *more, "--device", "cpu"]


def spent(arguments: list[str], source: Path) -> Spent:
    """Runs Python with a checkout.

    Raises:
        RuntimeError: If it fails; with what it said.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=told,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            raise RuntimeError(f"{' '.join(arguments[:4])} failed: {told.read()[-800:].decode(errors='replace')}")
    return Spent(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


def check_same(folders: list[Path]) -> None:
    """Compares results pixel by pixel, and scores to the last digit.

    Raises:
        RuntimeError: If they differ.
    """
    first, *others = folders
    names = sorted(path.name for path in first.iterdir())
    for other in others:
        if names != sorted(path.name for path in other.iterdir()):
            raise RuntimeError(f"{other} holds other files")
        for name in names:
            if content(first / name) != content(other / name):
                raise RuntimeError(f"{name} differs in {other}")


def content(path: Path) -> Any:
    """What a file of results says."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return image.mode, image.size, image.getpalette(), image.tobytes()
    return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else path.read_bytes()


def prepare(root: Path, images: int) -> Path:
    """Draws the photographs and trains a run on small ones, unless they are there already; returns the run."""
    run = root / "run"
    if run.is_dir():
        return run
    for name, count, size in (("many", images, LARGE), ("one", 1, LARGE), ("small", 8, SMALL)):
        for index in range(count):
            image, mask = draw_photograph(size, np.random.default_rng((len(name), index)))
            for split in ("train", "test") if name == "small" else ("test",):
                for kind in ("images", "masks"):
                    (root / name / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(root / name / split / "images" / f"{index:03d}.jpg", quality=90)
                Image.fromarray(mask).save(root / name / split / "masks" / f"{index:03d}.png")
    train = ["-m", "convlora.cli.main", "train", str(root / "small"), "--output", str(run), "--model", "tiny"]
    spent([*train, "--epochs", "5", "--device", "cpu"], ROOT / "src")
    return run


if __name__ == "__main__":
    main()
