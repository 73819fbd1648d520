r"""The same training with one thing changed, over several seeds: which is better?

python scripts/compare_variants.py DATA --output DIR --seeds 3 --base model.source=tiny epochs=10 \
    --variant "mask classification" head=mask-classification --variant "per pixel" head=per-pixel

A run that is finished is not repeated, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from convlora.runs.reading import read_metrics
from convlora.training.config import RunConfig
from convlora.training.run import train


def main() -> None:
    """Trains every variant with every seed and prints the scores on the test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--base", nargs="+", default=[], metavar="KEY=VALUE", help="settings of all variants")
    parser.add_argument(
        "--variant", nargs="+", action="append", required=True, metavar=("NAME", "KEY=VALUE"), help="one variant"
    )
    options = parser.parse_args()
    for name, *settings in options.variant:
        results: list[dict[str, Any]] = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            run = options.output / f"{name.replace(' ', '-')}-{seed}"
            results.append(read_metrics(run) or _train(options.data, [*options.base, *settings], seed, run))
        print(json.dumps({"data": options.data.name, "variant": name, **_summary(results)}), flush=True)


def _train(data: Path, settings: list[str], seed: int, run: Path) -> dict[str, Any]:
    config = RunConfig()
    config.override([*settings, f"training.seed={seed}"])
    config.data.path = str(data)
    return train(config, run, resume=(run / "config.yaml").exists())


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    name = "miou" if "miou" in results[0]["test"] else "iou"
    scores = [result["test"][name] for result in results]
    summary: dict[str, Any] = {
        f"test_{name}": round(statistics.mean(scores), 4),
        "deviation": round(statistics.stdev(scores), 4) if len(scores) > 1 else None,
        "all": [round(score, 4) for score in scores],
        "trainable": results[0]["params"]["trainable"],
        "seconds_per_step": round(statistics.median(result["seconds_per_step"] for result in results), 4),
        "peak_memory_mb": round(max(result["peak_memory_mb"] for result in results)),
    }
    if name == "miou":
        summary["per_class_iou"] = {
            kind: _mean([result["test"]["per_class"][kind]["iou"] for result in results])
            for kind in results[0]["test"]["per_class"]
        }
    return summary


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.mean(known), 4) if known else None


if __name__ == "__main__":
    main()
