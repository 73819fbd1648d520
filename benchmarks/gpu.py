"""Everything that has to be measured on a GPU, in one command of at most eight minutes.

Needs no network: the weights are random, the photographs drawn. Each part is guarded, and the JSON is written after
every measurement, so that whatever ends the command leaves what was measured. The parts come in the order of their
importance; what no longer fits into the time is left out, and the result says so.

- parity: the GPU against the CPU, in loss and gradients; replayed steps; resumed runs
- steps: time and memory of a training step of every kind
- kernels: kernels started, busy time and synchronisations of a step
- inference: images per second
- attention: the attention of one block in every form
- feeding: whether reading keeps up; whole commands
- memory: `--memory auto` against the truth

    python benchmarks/gpu.py --output benchmarks/results/gpu.json
    python benchmarks/gpu.py --parts steps kernels --largest-batch 4 --budget-seconds 200
    python benchmarks/gpu.py --dry-run
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from gpu_parts import attention, feeding, inference, kernels, memory, parity, steps
from gpu_parts.session import Session, dry_plan, true_plan
from transformers.utils import logging

from convlora.devices import resolve_device

PARTS = {
    "parity": parity.tasks,
    "steps": steps.tasks,
    "kernels": kernels.tasks,
    "inference": inference.tasks,
    "attention": attention.tasks,
    "feeding": feeding.tasks,
    "memory": memory.tasks,
}


def main() -> None:
    """Runs the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write the JSON to this file, after every measurement")
    parser.add_argument("--budget-seconds", type=float, default=450.0, help="what no longer fits is left out")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--largest-batch", type=int, help="leave out training steps of larger batches")
    parser.add_argument("--data", type=Path, help="a data folder to feed, instead of drawn photographs")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a CPU too: shows that every part runs")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU. Give --dry-run to see whether every part runs.")
    logging.disable_progress_bar()
    device = resolve_device("auto")
    session = Session(options.output, options.budget_seconds)
    plan = (dry_plan if options.dry_run else true_plan)(device, options.data)
    if options.largest_batch:
        batches = {size: tuple(b for b in of if b <= options.largest_batch) for size, of in plan.step_batches.items()}
        plan = dataclasses.replace(plan, step_batches=batches)
    for part in options.parts:
        session.run(part, PARTS[part](plan))
    if "steps" in session.parts:
        session.parts["ratios"] = steps.ratios(session.parts["steps"])
        session.write()
    print_summary(session.parts)


def print_summary(parts: dict[str, dict[str, Any]]) -> None:
    """Prints one line for each measurement, and what failed or was left out at the end."""
    troubles = []
    for part, results in parts.items():
        print(f"\n{part}")
        for name, result in results.items():
            if not isinstance(result, dict) or "error" in result or "skipped" in result:
                troubles.append(f"{part}: {name}: {result}")
                continue
            shown = [f"{key} {_short(value)}" for key, value in result.items() if not isinstance(value, (list, dict))]
            wrong = [key for key, value in result.items() if isinstance(value, dict) and value.get("ok") is False]
            print(f"  {name}: {', '.join(shown) or 'ok'}{' NOT OK: ' + ', '.join(wrong) if wrong else ''}")
    print("\nFailed or left out: " + ("nothing" if not troubles else ""))
    for trouble in troubles:
        print(f"  {trouble[:300]}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
