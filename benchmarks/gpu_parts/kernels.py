"""What the device does in a step: kernels started, the time it is busy, and how often the host waits for it."""

from __future__ import annotations

import json
import statistics
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from harness import wait
from kinds import PLAIN, Kind
from torch.profiler import ProfilerActivity, profile

from gpu_parts.session import Plan, Task
from gpu_parts.stepping import prepared, timed

KINDS = {
    "Conv-LoRA": Kind(),
    "Conv-LoRA, graphs": Kind(compile="auto"),
    "LoRA": Kind("lora"),
    "plain Conv-LoRA": PLAIN,
}
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of a trace
PROFILED = 3  # steps


def tasks(plan: Plan) -> Iterator[Task]:
    """Every kind at batch 1, where kernels are shortest, model by model."""
    for size in plan.step_batches:
        for name, kind in KINDS.items():
            yield Task(f"{size}, {name}", lambda size=size, kind=kind: of_step(size, kind, plan), needs=15)


def of_step(size: str, kind: Kind, plan: Plan) -> dict[str, Any]:
    """Kernels, busy time and synchronisations of one step."""
    _, step = prepared(size, kind, 1, plan)
    seconds = statistics.median(timed(step, plan)[0])

    def steps() -> None:
        for _ in range(PROFILED):
            step()

    seen = {key: value / PROFILED for key, value in profiled(steps, plan.device).items()}
    # The profiler slows the host down, so the device's work is compared with a step without it.
    share = seen["busy ms"] / (1e3 * seconds)
    return {"ms": 1e3 * seconds, **seen, "share busy": share, **synchronisations(step, plan.device)}


def profiled(work: Callable[[], object], device: torch.device) -> dict[str, float]:
    """What the profiler sees of the device while some work is done: see [`summary`], and `profiled ms` of wall time."""
    with profiler_of(device) as profiler:
        start = wait(device)
        work()
        seconds = wait(device) - start
    return {**summary(events_of(profiler)), "profiled ms": 1e3 * seconds}


def profiler_of(device: torch.device) -> profile:
    """A profiler of the device alone: the trace is small, and the host is hardly slowed down."""
    return profile(activities=[ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU])


def events_of(profiler: profile) -> list[dict[str, Any]]:
    """The events of a trace in Chrome's format, the only documented way to see categories."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return json.loads(path.read_text(encoding="utf-8"))["traceEvents"]


def summary(events: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Counts what a trace holds.

    Args:
        events: Events of a trace in Chrome's format; `ts` and `dur` in microseconds.

    Returns:
        `kernels`, copies and fillings included; `launches` by the host, a whole graph being one; `busy ms`, in which at
        least one of them ran.
    """
    spans, launches = [], 0
    for event in events:
        if event.get("ph") != "X":
            continue
        if event.get("cat") in ON_DEVICE:
            spans.append((float(event["ts"]), float(event["ts"]) + float(event["dur"])))
        elif event.get("cat") in ("cuda_runtime", "cuda_driver") and "Launch" in event.get("name", ""):
            launches += 1
    return {"kernels": len(spans), "launches": launches, "busy ms": covered(spans) / 1e3}


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of some intervals: kernels of several streams run at the same time."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def synchronisations(step: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """How often PyTorch makes the host wait for the device in one step, and in which lines."""
    if device.type != "cuda":
        return {"synchronisations": None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = [one for one in caught if "synchronizing CUDA operation" in str(one.message)]
    lines = Counter(f"{Path(one.filename).name}:{one.lineno}" for one in found)
    return {"synchronisations": len(found), "lines": dict(lines.most_common(5))}
