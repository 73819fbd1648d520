"""Whole training steps side by side: forward, loss, backward, optimizer. Each kind runs in its own process, in turn.

python benchmarks/step.py --model vit-b --image-size 1024 --rounds 2 --output benchmarks/results/step.json

Ratios are to the first kind in the first precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import ROOT, add_output, report

KINDS = {
    "stock eager, Conv-LoRA direct": ["--attention", "eager", "--experts", "direct"],
    "stock sdpa, Conv-LoRA direct": ["--attention", "sdpa", "--experts", "direct"],
    "stock eager, LoRA": ["--attention", "eager", "--method", "lora"],
    "stock sdpa, LoRA": ["--attention", "sdpa", "--method", "lora"],
    "stock eager, Conv-LoRA direct, tuned allocator": [
        "--attention",
        "eager",
        "--experts",
        "direct",
        "--allocator",
        "tuned",
    ],
    "ours, LoRA": ["--method", "lora", "--allocator", "tuned"],
    "ours, Conv-LoRA": ["--allocator", "tuned"],
    "ours, Conv-LoRA, default allocator": [],
    "ours, Conv-LoRA, branch at half size": ["--allocator", "tuned", "--detail", "half"],
    "ours, Conv-LoRA, branch at full size": ["--allocator", "tuned", "--detail", "full"],
    "ours, 11 classes, mask classification": ["--allocator", "tuned", "--classes", "11", "--mask-tokens", "17"],
    "ours, 11 classes, per pixel": ["--allocator", "tuned", "--classes", "11", "--head", "per-pixel"],
    "ours, 150 classes, mask classification": ["--allocator", "tuned", "--classes", "150", "--mask-tokens", "150"],
    "ours, 150 classes, per pixel": ["--allocator", "tuned", "--classes", "150", "--head", "per-pixel"],
    "ours, Conv-LoRA, checkpointing": ["--activation-checkpointing", "--allocator", "tuned"],
}


def measure(shared: list[str], kind: list[str]) -> dict[str, Any]:
    """Runs one kind of step and reads what it prints."""
    command = [sys.executable, str(Path(__file__).with_name("one_step.py")), *shared, *kind]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(results: list[dict[str, Any]], first: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the rounds, and ratios to the first kind in the same round."""
    seconds = [result["seconds"]["step"] for result in results]
    memory = [result["peak_memory_mb"] for result in results]
    return {
        "seconds": statistics.median(seconds),
        "from": min(seconds),
        "to": max(seconds),
        "forward": statistics.median(result["seconds"]["forward"] for result in results),
        "backward": statistics.median(result["seconds"]["backward"] for result in results),
        "peak MB": statistics.median(memory),
        "share of matrix rate": statistics.median(result["share_of_matrix_rate"] for result in results),
        "time ratio": statistics.median(a / b["seconds"]["step"] for a, b in zip(seconds, first)),
        "memory ratio": statistics.median(a / b["peak_memory_mb"] for a, b in zip(memory, first)),
    }


def main() -> None:
    """Runs the kinds in turn and compares them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-b")
    parser.add_argument("--image-size", type=int, nargs="+", default=[1024])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32"])
    parser.add_argument("--steps", type=int, default=1, help="counted steps of a process")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them that are not counted")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    add_output(parser)
    options = parser.parse_args()
    rows = []
    kinds = [(precision, kind) for precision in options.precision for kind in options.kinds]
    for size in options.image_size:
        shared = ["--model", options.model, "--image-size", str(size),
                  "--steps", str(options.steps), "--warm-up", str(options.warm_up),
                  "--batch-size", str(options.batch_size)]  # fmt: skip
        measured: dict[tuple[str, str], list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            for precision, kind in kinds:
                measured[precision, kind].append(measure([*shared, "--precision", precision], KINDS[kind]))
        for (precision, kind), results in measured.items():
            rows.append(
                {
                    "image": size,
                    "precision": precision,
                    "step": kind,
                    **summary(results, measured[kinds[0]]),
                }
            )
    report(f"Training step, {options.model}, batch {options.batch_size}", rows, options.output)


if __name__ == "__main__":
    main()
