"""Is a pretrained SAM worth it? The same fine-tuning from it and from random weights of the same architecture.

python scripts/compare_start.py DATA --epochs 10 --seeds 3 --output comparison
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from pretraining.model import tiny_config

from convlora.models.random_sam import random_sam
from convlora.training.config import RunConfig
from convlora.training.run import train


def main() -> None:
    """Trains from both starts with every seed and prints the test scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", default="tiny", help="the pretrained SAM")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    random = options.output / "random"
    random_sam(tiny_config()).save_pretrained(random)
    results = {}
    for data in options.data:
        scores: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            for start, model in (("random", str(random)), ("pretrained", options.model)):
                config = RunConfig()
                training = {"epochs": options.epochs, "lr": options.lr, "batch_size": 4, "grad_accum": 1, "seed": seed}
                settings = {
                    "data": {"path": str(data), "augmentation": "flips"},
                    "model": {"source": model, "image_size": 256},
                    "training": training,
                }
                config.update(settings, origin="this script")
                metrics = train(config, options.output / f"{data.name}-{start}-{seed}")
                scores.setdefault(start, []).append(metrics["test"]["iou"])
        summary = {
            start: {"mean": round(statistics.mean(values), 4), "all": [round(value, 4) for value in values]}
            for start, values in scores.items()
        }
        results[data.name] = summary
        print(json.dumps({"data": data.name, "test_iou": summary}), flush=True)
    (options.output / "comparison.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
