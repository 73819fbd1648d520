"""Resident memory of a process that has loaded runs for `convlora serve`, with and without shared weights.

python benchmarks/shared_weights.py RUN RUN RUN RUN            # each case in a process of its own
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch

from convlora.cores import peak_resident_bytes
from convlora.serve import served


def only_loaded(models: Iterable[torch.nn.Module]) -> int:
    """In place of the sharing: models stay as they are."""
    for _ in models:
        pass
    return 0


def measure(runs: list[Path], share: bool) -> dict[str, float]:
    """Loads runs in this process."""
    if not share:
        served.share_equal_weights = only_loaded
    before = psutil.Process().memory_info().rss
    _, saved = served.load_runs(runs, device="cpu", precision="fp32")
    after = psutil.Process().memory_info().rss
    sizes = {"before": before, "loaded": after, "peak": peak_resident_bytes(), "saved": saved}
    return {"runs": len(runs), "share": share, **{f"{name}_mb": round(size / 2**20) for name, size in sizes.items()}}


def main() -> None:
    """Starts a process for each case, and prints a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--case", choices=["share", "apart"], help="measure this one, in this process")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.runs, options.case == "share")))
        return
    for runs, case in ((options.runs[:1], "share"), (options.runs, "share"), (options.runs, "apart")):
        subprocess.run([sys.executable, __file__, *map(str, runs), "--case", case], check=True)


if __name__ == "__main__":
    main()
