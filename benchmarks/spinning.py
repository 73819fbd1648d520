"""How long threads that wait should look for work before they sleep, alone on a machine and beside another process.

Every value of GOMP_SPINCOUNT is measured by `one_step.py` in a process of its own, in turn. Beside means that each core
also runs an endless loop.

    python benchmarks/spinning.py --model vit-b --image-size 512 --rounds 3

`convlora.cores.SPINS` is the value that the command uses.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import ROOT, add_output, report, summarise

from convlora.cores import SPINS, usable_cores

DEFAULT = "OpenMP's own"


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keeps so many cores busy."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def step_seconds(spins: str, options: argparse.Namespace) -> float:
    """Median seconds of a step in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    if spins != DEFAULT:
        environment["GOMP_SPINCOUNT"] = spins
    command = [sys.executable, str(Path(__file__).with_name("one_step.py")), "--model", options.model]
    command += ["--image-size", str(options.image_size), "--steps", str(options.steps), "--device", "cpu"]
    command += ["--allocator", "tuned"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"]["step"])


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-b")
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spins", nargs="+", default=[DEFAULT, "0", "100", str(SPINS), "10000", "100000"])
    add_output(parser)
    options = parser.parse_args()
    rows = []
    for beside in (0, usable_cores()):
        seconds: dict[str, list[float]] = {spins: [] for spins in options.spins}
        with busy(beside):
            for _ in range(options.rounds):
                for spins in options.spins:
                    seconds[spins].append(step_seconds(spins, options))
        first = summarise(seconds[options.spins[0]])["median"]
        for spins, values in seconds.items():
            ratio = summarise(values)["median"] / first
            rows.append({"spins": spins, "busy cores": beside, "ratio to the first": ratio, **summarise(values)})
    report(f"A step of {options.model} at {options.image_size} pixels, seconds", rows, options.output)


if __name__ == "__main__":
    main()
