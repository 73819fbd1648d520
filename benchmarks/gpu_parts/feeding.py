"""Whether reading keeps up with the GPU, and how long whole commands take."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from harness import ROOT, wait
from kinds import sam_config

from convlora.cli.main import run as convlora
from convlora.data.dataset import SegmentationDataset
from convlora.models.random_sam import random_sam
from convlora.reporting import Silent
from convlora.training.callbacks import StepTimer
from convlora.training.config import RunConfig
from convlora.training.run import train
from convlora.training.usable_data import load_data
from gpu_parts.kernels import events_of, profiler_of, summary
from gpu_parts.photographs import write_photographs
from gpu_parts.session import Plan, Task, Unavailable

AUGMENTATIONS = ("none", "flip", "strong")
READ = 8  # images for each


def tasks(plan: Plan) -> Iterator[Task]:
    """All with the first model of the plan."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    size = next(iter(plan.step_batches))
    commands = Commands(plan, root)
    try:
        yield Task("set-up", lambda: set_up(size, plan, root), needs=20)
        yield Task("reading", lambda: reading(plan, root), needs=10)
        yield Task("waiting", lambda: waiting(plan, root), needs=40)
        yield Task("start-up", commands.start_up, needs=20)
        yield Task("train", commands.train, needs=50)
        yield Task("evaluate", commands.evaluate, needs=25)
        yield Task("predict", commands.predict, needs=25)
    finally:
        folder.cleanup()


def set_up(size: str, plan: Plan, root: Path) -> dict[str, float]:
    """Draws the photographs and saves the model, which no figure below includes."""
    start = time.perf_counter()
    if plan.data is None:
        count, pixels = plan.photographs
        write_photographs(root / "data", count, max(2, count // 16), pixels)
    with plan.device:
        sam = random_sam(sam_config(size))
    sam.save_pretrained(root / "model")
    return {"seconds": time.perf_counter() - start}


def run_config(plan: Plan, root: Path, **data: Any) -> RunConfig:
    """The settings of `convlora train` with its defaults, for two epochs."""
    config = RunConfig()
    sections = {
        "data": {"path": str(data_of(plan, root)), **data},
        "model": {"source": str(root / "model"), "image_size": plan.image_size},
        "training": {"epochs": 2, "device": plan.device.type, **plan.batches},
    }
    config.update(sections, origin="the benchmark")
    return config


def data_of(plan: Plan, root: Path) -> Path:
    """The data folder."""
    return root / "data" if plan.data is None else plan.data


def reading(plan: Plan, root: Path) -> dict[str, float]:
    """Milliseconds to read and augment an image, by one reader with one thread."""
    data = load_data(run_config(plan, root), lambda text: None)
    samples, _ = data.source.train_val(0, 0.1)
    size = (plan.image_size, plan.image_size)
    threads, result = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    try:
        for augmentation in AUGMENTATIONS:
            dataset = SegmentationDataset(samples, data.classes, size, augmentation=augmentation)
            dataset[0]  # imports what it needs
            start = time.perf_counter()
            count = min(READ, len(dataset))
            for index in range(count):
                dataset[index]
            result[f"{augmentation} ms"] = 1e3 * (time.perf_counter() - start) / count
    finally:
        torch.set_num_threads(threads)
    return result


class Watch:
    """Profiles the device from one optimizer step to another, what happens between the steps included."""

    def __init__(self, plan: Plan) -> None:
        self.device = plan.device
        self.profiler: Any = None
        self.result: dict[str, float] = {}
        self._start = 0.0

    def step_begins(self, done: int, steps_per_epoch: int) -> None:
        """Called when a step begins, the number of steps done before it being known."""
        # Not the first steps, which choose kernels and find the readers ahead; and no validation.
        first, last = steps_per_epoch // 3, steps_per_epoch - 1
        if done == first < last and self.profiler is None:
            self.profiler = profiler_of(self.device)
            self.profiler.__enter__()
            self._start = wait(self.device)
        elif done == last and self.profiler is not None and not self.result:
            seconds = wait(self.device) - self._start
            self.profiler.__exit__(None, None, None)
            seen = summary(events_of(self.profiler))
            count = last - first
            self.result = {
                "steps": count,
                "ms per step": 1e3 * seconds / count,
                "busy ms per step": seen["busy ms"] / count,
                "share waiting": 1 - seen["busy ms"] / (1e3 * seconds),
            }


def waiting(plan: Plan, root: Path) -> dict[str, Any]:
    """Trains for two epochs and looks at the device within the first."""
    watch = Watch(plan)
    begin = StepTimer.on_step_begin

    def on_step_begin(self: StepTimer, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        watch.step_begins(state.global_step, state.max_steps // 2)
        begin(self, args, state, control, **kwargs)

    with mock.patch.object(StepTimer, "on_step_begin", on_step_begin):
        metrics = train(run_config(plan, root), root / "watched", reporter=Silent())
    return {**watch.result, "seconds_per_step of metrics.json": metrics["seconds_per_step"]}


class Commands:
    """Whole commands as processes of their own."""

    def __init__(self, plan: Plan, root: Path) -> None:
        self.plan, self.root = plan, root
        self.data, self.run = data_of(plan, root), root / "run"

    def start_up(self) -> dict[str, float]:
        """Seconds until a command can begin to work: help, and the imports of training."""
        if not self.plan.own_processes:
            raise Unavailable("not without processes of their own")
        imports = "import torch, transformers, peft, convlora.training.run"
        return {
            "help": seconds_of(["-m", "convlora.cli.main", "--help"]),
            "imports": seconds_of(["-c", imports]),
            "imports and device": seconds_of(["-c", f"{imports}; torch.zeros(1, device='{self.plan.device.type}')"]),
        }

    def train(self) -> dict[str, Any]:
        """`convlora train` with its defaults, for two epochs."""
        config = run_config(self.plan, self.root)
        config.save(self.root / "config.yaml")
        seconds = self._convlora("train", "--config", self.root / "config.yaml", "--output", self.run)
        return {"seconds": seconds, "epochs": 2, "images": count_images(self.data / "train")}

    def evaluate(self) -> dict[str, Any]:
        """`convlora evaluate` on the test images."""
        seconds = self._convlora("evaluate", self.run, self.data)
        return {"seconds": seconds, "images": count_images(self.data / "test")}

    def predict(self) -> dict[str, Any]:
        """`convlora predict` of the training images, the most there are."""
        images = self.data / "train" / "images"
        seconds = self._convlora("predict", self.run, images, "--output", self.root / "predictions")
        return {"seconds": seconds, "images": count_images(self.data / "train")}

    def _convlora(self, command: str, *arguments: object) -> float:
        device = [] if command == "train" else ["--device", self.plan.device.type]
        words = [command, *map(str, arguments), *device]
        if self.plan.own_processes:
            return seconds_of(["-m", "convlora.cli.main", *words])
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
            try:
                convlora(words)
            except SystemExit as end:
                if end.code:
                    raise RuntimeError(f"convlora {command} failed: {told.getvalue()[-400:]}") from None
        return time.perf_counter() - start


def count_images(split: Path) -> int | None:
    """How many images a split has; None if the data are no folder of splits."""
    with contextlib.suppress(FileNotFoundError):
        return sum(1 for _ in (split / "images").iterdir())
    return None


def seconds_of(arguments: list[str]) -> float:
    """Seconds of a Python process.

    Raises:
        RuntimeError: If it fails; with what it said.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=90)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:3])} failed: {done.stderr[-400:]}")
    return time.perf_counter() - start
