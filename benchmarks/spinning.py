"""How long threads that wait should look for work: alone, beside busy cores, beside a second training.

Every value of GOMP_SPINCOUNT is measured by `one_step.py` in a process of its own, in turn. With busy cores, each core
also runs an endless loop. The second training runs the same steps with the same value.

    python benchmarks/spinning.py --model tiny --image-size 256 --steps 20 --rounds 3

`convlora.cores.SPINS` is the value that the command uses.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness import ROOT, add_output, report, summarise

from convlora.cores import SPINS, usable_cores

DEFAULT = "OpenMP's own"
ALONE, LOOPS, TRAINING = "nothing", "busy cores", "a second training"


@contextlib.contextmanager
def beside(what: str, spins: str, options: argparse.Namespace) -> Iterator[None]:
    """Keeps the machine busy in one of these ways."""
    commands: list[list[str]] = []
    if what == LOOPS:
        commands = [[sys.executable, "-c", "while True: pass"]] * usable_cores()
    elif what == TRAINING:
        commands = [step_command(options, steps=1_000_000)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    others = [subprocess.Popen(command, env=environment(spins), cwd=ROOT, **quiet) for command in commands]
    try:
        if what == TRAINING:
            time.sleep(options.head_start)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def environment(spins: str) -> dict[str, str]:
    """Variables of a process whose threads wait so."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    return found if spins == DEFAULT else {**found, "GOMP_SPINCOUNT": spins}


def step_command(options: argparse.Namespace, steps: int) -> list[str]:
    """Makes so many steps."""
    command = [sys.executable, str(Path(__file__).with_name("one_step.py")), "--model", options.model]
    return [*command, "--image-size", str(options.image_size), "--steps", str(steps), "--device", "cpu"]


def step_seconds(what: str, spins: str, options: argparse.Namespace) -> float:
    """Median seconds of a step in a process of its own."""
    command = step_command(options, options.steps)
    with beside(what, spins, options):
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(spins), cwd=ROOT)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"]["step"])


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spins", nargs="+", default=[DEFAULT, "1000", str(SPINS), "30000"])
    parser.add_argument("--head-start", type=float, default=12, help="seconds until the second training makes steps")
    add_output(parser)
    options = parser.parse_args()
    rows = []
    for what in (ALONE, LOOPS, TRAINING):
        seconds: dict[str, list[float]] = {spins: [] for spins in options.spins}
        for _ in range(options.rounds):
            for spins in options.spins:
                seconds[spins].append(step_seconds(what, spins, options))
        first = summarise(seconds[options.spins[0]])["median"]
        for spins, values in seconds.items():
            ratio = summarise(values)["median"] / first
            rows.append({"spins": spins, "beside": what, "ratio to the first": ratio, **summarise(values)})
    report(f"A step of {options.model} at {options.image_size} pixels, seconds", rows, options.output)


if __name__ == "__main__":
    main()
