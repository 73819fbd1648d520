"""Running tasks within a time, keeping every result as soon as it is there."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from harness import conditions

from convlora.methods.registry import METHODS


class Unavailable(Exception):
    """Something that is measured only where it exists, such as CUDA graphs."""


@dataclass(frozen=True)
class Task:
    """One thing to measure.

    Attributes:
        name: Its key in the results.
        work: Measures it, and returns what can be written as JSON.
        needs: Seconds it may take; with less left it is not begun.
    """

    name: str
    work: Callable[[], Any]
    needs: float = 10.0


@dataclass(frozen=True)
class Plan:
    """The sizes of the work.

    Attributes:
        device: Where to compute.
        precision: `"bf16"` or `"fp32"`.
        methods: Methods whose gradients are compared.
        image_size: Side of the images in pixels.
        step_batches: Batch sizes of training steps by model.
        inference_batches: Batch sizes of inference.
        steps: Counted steps.
        warm_up: Steps before them.
        maps: Maps of the attention by name: how many, cells a side.
        images_per_step: What `--memory auto` plans for.
        largest_batch: Where the search for the largest batch ends.
        photographs: How many images are fed, and their (height, width) in pixels.
        own_processes: Whether whole commands run in processes of their own, or in this one.
        batches: Batch size and batches per step of whole runs, if not the defaults.
        classes: Classes of the random labels.
        data: A data folder to feed instead of drawn images.
    """

    device: torch.device
    precision: str
    methods: tuple[str, ...]
    image_size: int
    step_batches: dict[str, tuple[int, ...]]
    inference_batches: tuple[int, ...]
    steps: int
    warm_up: int
    maps: dict[str, tuple[int, int]]
    images_per_step: int
    largest_batch: int
    photographs: tuple[int, tuple[int, int]]
    own_processes: bool = True
    batches: dict[str, int] = field(default_factory=dict)
    classes: int = 2
    data: Path | None = None


def true_plan(device: torch.device, data: Path | None) -> Plan:
    """What is measured on a GPU."""
    return Plan(
        device=device,
        precision="bf16",
        methods=tuple(METHODS),
        image_size=1024,
        step_batches={"vit-b": (1, 4, 8), "vit-h": (1, 4)},
        inference_batches=(1, 8),
        steps=8,
        warm_up=3,
        maps={"global 64x64": (1, 64), "25 windows of 14x14": (25, 14)},
        images_per_step=64,
        largest_batch=128,
        photographs=(64, (1000, 1500)),
        data=data,
    )


def dry_plan(device: torch.device, data: Path | None) -> Plan:
    """The same work in sizes at which only its errors show."""
    return Plan(
        device=device,
        precision="bf16" if device.type == "cuda" else "fp32",
        methods=("conv-lora",),
        image_size=64,
        step_batches={"mini": (1,)},
        inference_batches=(1,),
        steps=1,
        warm_up=1,
        maps={"global 4x4": (1, 4)},
        images_per_step=2,
        largest_batch=2,
        photographs=(4, (80, 120)),
        own_processes=False,
        batches={"batch_size": 1, "grad_accum": 1},
        data=data,
    )


@dataclass
class Session:
    """Runs tasks and writes what they return.

    Args:
        output: The JSON file, written anew after every task; None for none.
        budget: Seconds from now on.
    """

    output: Path | None
    budget: float
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin = time.monotonic()
        self.conditions = conditions()
        gc.freeze()  # what the imports made: looking through it after every task would take a third of a second

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (time.monotonic() - self.begin)

    def run(self, part: str, tasks: Iterable[Task]) -> None:
        """Runs the tasks of a part one after the other; none of them ends the others."""
        results = self.parts.setdefault(part, {})
        begin = time.monotonic()
        try:
            for task in tasks:
                results[task.name] = self._result(task)
                self._say(part, task.name, results[task.name])
                self.seconds[part] = round(time.monotonic() - begin, 1)
                self.write()
        except Exception as error:  # while a part sets out what to do
            results["error"] = described(error)
            self._say(part, "", results)
        release()
        self.write()

    def _result(self, task: Task) -> Any:
        if self.left < task.needs:
            return {"skipped": f"{self.left:.0f} s left, it may take {task.needs:.0f} s"}
        try:
            return task.work()
        except Unavailable as error:
            return {"skipped": str(error)}
        except Exception as error:  # whatever it is, the next task is worth as much
            return {"error": described(error)}
        finally:
            release()

    def _say(self, part: str, name: str, result: Any) -> None:
        text = json.dumps(result, default=str)
        shown = text if len(text) <= 200 else text[:197] + "..."
        print(f"[{time.monotonic() - self.begin:5.0f} s] {part}: {name}: {shown}", flush=True)

    def write(self) -> None:
        """Writes the results there are, by way of a second file, so that no moment is without a whole one."""
        if self.output is None:
            return
        self.output.parent.mkdir(parents=True, exist_ok=True)
        result = {"title": "One GPU", "conditions": self.conditions, "seconds": self.seconds, "parts": self.parts}
        beside = self.output.with_suffix(".part")
        beside.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")
        beside.replace(self.output)


def described(error: Exception) -> str:
    """An error as one short text."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {error}"[:600]


def release() -> None:
    """Gives back what nobody holds any more, so that one task's memory is not counted for the next."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
