"""The table: a training step of every kind, in time and memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from kinds import PLAIN, Kind

from gpu_parts.session import Plan, Task
from gpu_parts.stepping import image_flops, prepared, rate_of, timed

KINDS = {
    "plain Conv-LoRA": PLAIN,
    "Conv-LoRA": Kind(),
    "Conv-LoRA, graphs": Kind(compile="auto"),
    "LoRA": Kind("lora"),
    "LoRA, graphs": Kind("lora", compile="auto"),
    "transformers' sdpa, LoRA": Kind("lora", attention="sdpa"),
    "decoder only": Kind("decoder"),
    "Conv-LoRA, checkpointing": Kind(checkpointing=True),
}
COMPARED = {
    "Conv-LoRA": {"plain": "plain Conv-LoRA", "LoRA": "LoRA"},
    "Conv-LoRA, graphs": {"plain": "plain Conv-LoRA", "LoRA": "LoRA, graphs", "eager": "Conv-LoRA"},
}


def tasks(plan: Plan) -> Iterator[Task]:
    """First the device's matrix rate, then every kind at every size; each model's plain form before the others."""
    yield Task("matrix rate", lambda: {"tflops": rate_of(plan.device, plan.precision) / 1e12}, needs=5)
    # The smallest batch of every model first: if time is short, the larger ones are what is left out.
    sizes = [(size, batch) for size, batches in plan.step_batches.items() for batch in batches]
    for size, batch in sorted(sizes, key=lambda one: one[1]):
        for name, kind in KINDS.items():

            def work(size: str = size, batch: int = batch, kind: Kind = kind) -> dict[str, Any]:
                return measure(size, batch, kind, plan)

            yield Task(f"{size}, batch {batch}, {name}", work, needs=12)


def measure(size: str, batch: int, kind: Kind, plan: Plan) -> dict[str, Any]:
    """Milliseconds and GiB of one kind of step, and how much of the matrix rate it uses."""
    _, step = prepared(size, kind, batch, plan)
    seconds, memory = timed(step, plan)
    median = statistics.median(seconds)
    # The backward pass through frozen weights makes as many operations as the forward pass; the decoder's alone few.
    passes = 1 if kind.method == "decoder" else 2
    flops = passes * batch * image_flops(size, plan.image_size)
    return {
        "ms": 1e3 * median,
        "from": 1e3 * min(seconds),
        "to": 1e3 * max(seconds),
        "steps": len(seconds),
        **memory,
        "share of matrix rate": flops / median / rate_of(plan.device, plan.precision),
    }


def ratios(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Time and memory of Conv-LoRA over the plain form, and over LoRA made in the same way.

    Args:
        results: Results of the tasks, by name.
    """
    found: dict[str, dict[str, float]] = {}
    for name, result in results.items():
        for ours, others in COMPARED.items():
            where = name.removesuffix(f", {ours}")
            if where == name:
                continue
            for other, theirs in others.items():
                values = results.get(f"{where}, {theirs}", {})
                # What is allocated leaves out what recordings keep for their replay.
                for key, quantity in (("ms", "time"), ("reserved GiB", "memory")):
                    if key in result and key in values:
                        found.setdefault(name, {})[f"{quantity} over {other}"] = result[key] / values[key]
    return found
