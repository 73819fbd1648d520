"""Windows at the images' own resolution, or whole images resized? The same model size, and the same steps or seconds.

    python benchmarks/windows.py --data DATA --output benchmarks/results/windows.jsonl
    python benchmarks/windows.py --data DATA --output benchmarks/results/windows.jsonl --seconds 60
    python benchmarks/windows.py --output benchmarks/results/windows.jsonl --table

DATA holds the data folders `cracks` and `nuclei`. Every run is written when it is done; those that the output holds
with the same settings are not made again. Each test image is scored at its own size, in either way.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accuracy import COMMON, PHOTOGRAPHS, one_run, read_records
from harness import conditions

from convlora.training.run import Interrupted

METHODS = ("conv-lora", "unet")
DETAIL = "model.detail=half"  # what the published figures are from


def main() -> None:
    """Makes the runs that are missing, and prints the table."""
    options = _options()
    if not options.table:
        if options.data is None:
            raise SystemExit("Give the folder that holds the images by --data, or --table for what there is.")
        done = {_key(record) for record in read_records(options.output)}
        length = [
            f"training.max_steps={options.steps}"
            if options.seconds is None
            else f"training.budget_seconds={options.seconds}"
        ]
        for seed in options.seeds:
            for data in options.sets:
                for method in options.methods:
                    for way, settings in ways(options.side).items():
                        settings = [*COMMON, DETAIL, *length, *settings]
                        record = {"data": data, "method": method, "way": way, "seed": seed, "settings": settings}
                        if _key(record) in done:
                            continue
                        try:
                            record |= one_run(data, method, settings, seed, options.data)
                        except Interrupted:
                            raise SystemExit("Interrupted. The same command makes this run anew and goes on.") from None
                        record["conditions"] = conditions()
                        with options.output.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(record) + "\n")
                        shown = ("data", "method", "way", "seed", "test", "val", "minutes")
                        print(json.dumps({key: record[key] for key in shown}), flush=True)
    print(table(read_records(options.output)))


def ways(side: int) -> dict[str, list[str]]:
    """The two ways of seeing images, and their settings; the model works at the same size in both.

    Args:
        side: Side of what the model sees, in pixels.
    """
    return {f"resized to {side}": [f"model.image_size={side}"], f"windows of {side}": [f"data.window={side}"]}


def table(records: Iterable[dict[str, Any]]) -> str:
    """Mean test scores over the seeds, by images, method and way."""
    lines = [
        "| images | method | | length | seeds | steps | test IoU | seconds per step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["data"], record["method"], record["way"], _length(record)), []).append(record)
    for (*named, length), own in groups.items():
        test, seconds, steps = (
            statistics.mean(one[name] for one in own) for name in ("test", "seconds_per_step", "steps")
        )
        cells = [*named, length, str(len(own)), f"{steps:.0f}", f"{test:.3f}", f"{seconds:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _length(record: dict[str, Any]) -> str:
    budget = next((one for one in record["settings"] if one.startswith("training.budget_seconds=")), None)
    return "equal steps" if budget is None else f"{budget.partition('=')[2]} seconds"


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["data"], record["method"], record["seed"], tuple(record["settings"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds the images")
    parser.add_argument("--output", type=Path, required=True, help="one line of JSON for each run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--sets", nargs="*", default=list(PHOTOGRAPHS), help="folders of images")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--side", type=int, default=128, help="of what the model sees, in pixels")
    parser.add_argument("--steps", type=int, default=180, help="optimizer steps of each run")
    parser.add_argument("--seconds", type=float, help="the same seconds of training steps instead of the same steps")
    parser.add_argument("--table", action="store_true", help="print what there is, and train nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
