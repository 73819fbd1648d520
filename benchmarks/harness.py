"""Timing several ways to do the same work in one run, and reporting it."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import SamConfig, SamModel

import convlora
from convlora.models import SamForSemanticSegmentation

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the direct form of the experts lies with the tests, whose judge it is


def wait(device: torch.device) -> float:
    """The time when the device has done all it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def step_seconds(work: Callable[[], Any], warm_up: int, steps: int, device: torch.device) -> list[float]:
    """Seconds of each of some steps that follow each other without a pause, as in training.

    On a GPU the times are those between events in its queue, so that the host may run ahead. What takes long is done
    fewer times: ten seconds are enough.
    """
    for _ in range(max(1, warm_up)):
        start = wait(device)
        work()
    each = wait(device) - start
    steps = max(1, min(steps, int(10 / max(each, 1e-9))))
    if device.type != "cuda":
        times = [wait(device)]
        for _ in range(steps):
            work()
            times.append(wait(device))
        return [after - before for before, after in pairwise(times)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in pairwise(events)]


def alternate(variants: dict[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Times variants in turn, A B C A B C, so that a change of the machine's speed hits all.

    The first two rounds are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 2):
        for name, work in variants.items():
            start = wait(device)
            work()
            seconds[name].append(wait(device) - start)
    return {name: values[2:] for name, values in seconds.items()}


def matrix_rate(device: torch.device, precision: str) -> float:
    """Floating-point operations per second of a large matrix product, the best of several."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    size = 8192 if device.type == "cuda" else 2048
    first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = alternate({"product": lambda: first @ second}, 10, device)["product"]
    return 2 * size**3 / min(seconds)


def forward_flops(config: SamConfig, image_size: int) -> int:
    """Floating-point operations of the matrix products of one image's forward pass, as the plain form makes them.

    A backward pass through frozen weights makes as many again; recomputation is not counted as useful.
    """
    with torch.device("meta"):
        model = SamForSemanticSegmentation.from_sam(SamModel(config), image_size=image_size, attention="eager")
        pixels = torch.empty(1, 3, image_size, image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixel_values=pixels)
    return counter.get_total_flops()


def summarise(values: Iterable[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def conditions() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": shlex.join(["python", *map(_without_folders, sys.argv)]),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft")},
        "convlora": convlora.__version__,
    }


def _without_folders(argument: str) -> str:
    """An absolute path by its name alone: where it lies on this machine is nobody else's business."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the option that every benchmark has."""
    parser.add_argument("--output", type=Path, help="also write the JSON to this file")


def report(title: str, rows: list[dict[str, Any]], output: Path | None, **more: Any) -> None:
    """Prints a table and writes the JSON."""
    print(f"\n{title}")
    columns = list(rows[0])
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in cells)) for i, column in enumerate(columns)]
    for line in (columns, ["-" * width for width in widths], *cells):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)))
    result = {"title": title, "conditions": conditions(), **more, "rows": rows}
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
