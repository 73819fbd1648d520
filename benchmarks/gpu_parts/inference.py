"""Images per second through the network alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import torch
from kinds import Kind, adapted, random_batch, segmenter

from convlora.inference.answers import RECORDED_FROM, Answers
from convlora.models.autocast import autocast
from convlora.models.replay import CudaRecorder, Repeater
from gpu_parts.session import Plan, Task
from gpu_parts.stepping import image_flops, rate_of, timed

KINDS = {
    "Conv-LoRA": Kind(),
    "Conv-LoRA, graphs": Kind(compile="auto"),
    "decoder only": Kind("decoder"),
    "transformers' sdpa": Kind("decoder", attention="sdpa"),
}


def tasks(plan: Plan) -> Iterator[Task]:
    """Every model and batch size."""
    for size in plan.step_batches:
        for batch in plan.inference_batches:
            for name, kind in KINDS.items():

                def work(size: str = size, batch: int = batch, kind: Kind = kind) -> dict[str, Any]:
                    return measure(size, batch, kind, plan)

                yield Task(f"{size}, batch {batch}, {name}", work, needs=10)


def measure(size: str, batch: int, kind: Kind, plan: Plan) -> dict[str, Any]:
    """Images per second, and how much of the matrix rate they use."""
    base = segmenter(size, plan.image_size, attention=kind.attention, device=plan.device, num_classes=plan.classes)
    model = adapted(base, kind, plan.precision, plan.device).eval()
    pixels = random_batch(batch, plan.image_size, plan.classes, plan.device)["pixel_values"]

    recorder = CudaRecorder() if plan.device.type == "cuda" else Repeater()
    answers = Answers(recorder if kind.compile == "auto" else None, lambda: autocast(plan.device, plan.precision))

    @torch.no_grad()
    def work() -> None:
        answers(model, pixels)

    for _ in range(RECORDED_FROM):  # from here on they are replayed
        work()

    seconds, memory = timed(work, plan)
    speed = batch / statistics.median(seconds)
    share = speed * image_flops(size, plan.image_size) / rate_of(plan.device, plan.precision)
    return {"images per second": speed, **memory, "share of matrix rate": share}
