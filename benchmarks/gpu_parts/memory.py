"""What `--memory auto` expects of a step, against what steps take and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from kinds import Kind, adapted, random_batch, segmenter
from torch import nn

from convlora.training.memory import plan_memory
from gpu_parts.session import Plan, Task, described, release
from gpu_parts.stepping import Step, make_step


def tasks(plan: Plan) -> Iterator[Task]:
    """The plan and the truth for every model."""
    for size in plan.step_batches:
        yield Task(f"{size}, planned", lambda size=size: planned(size, plan), needs=20)
        for name, checkpointing in (("plain", False), ("checkpointed", True)):

            def search(size: str = size, checkpointing: bool = checkpointing) -> dict[str, Any]:
                return largest(size, Kind(checkpointing=checkpointing), plan)

            yield Task(f"{size}, largest batch, {name}", search, needs=25)


def planned(size: str, plan: Plan) -> dict[str, Any]:
    """What is chosen, what was said about it, and the peak of a step made so."""
    base = segmenter(size, plan.image_size, device=plan.device, num_classes=plan.classes)
    model = adapted(base, Kind(), plan.precision, plan.device)
    said: list[str] = []
    image = (plan.image_size, plan.image_size)
    chosen = plan_memory(model, image, plan.images_per_step, plan.device, plan.precision, said.append)
    kind = Kind(checkpointing=chosen.activation_checkpointing)
    if kind.checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    step = make_step(model, plan.device, plan.precision)
    return {"plan": str(chosen), "said": said, "step": attempt(step, model, chosen.batch_size, plan)}


def largest(size: str, kind: Kind, plan: Plan) -> dict[str, Any]:
    """The largest batch that fits, and the peaks of all that were tried."""
    base = segmenter(size, plan.image_size, device=plan.device, num_classes=plan.classes)
    model = adapted(base, kind, plan.precision, plan.device)
    step = make_step(model, plan.device, plan.precision)
    tried: list[dict[str, Any]] = []

    def fits(batch: int) -> bool:
        tried.append(attempt(step, model, batch, plan))
        return bool(tried[-1]["fits"])

    return {"largest": bisect(fits, plan.largest_batch), "tried": tried}


def attempt(step: Step, model: nn.Module, batch: int, plan: Plan) -> dict[str, Any]:
    """Two steps of a batch: the peak in GiB, in all and beyond the model; or why they cannot be made."""
    release()
    result: dict[str, Any] = {"batch": batch, "fits": True}
    if plan.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    try:
        batches = [random_batch(batch, plan.image_size, plan.classes, plan.device)]
        for _ in range(2):
            step(batches)
        if plan.device.type == "cuda":
            torch.cuda.synchronize()
            peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
            result |= {"peak GiB": peak / 2**30, "reserved GiB": reserved / 2**30}
            result["beyond the model GiB"] = (peak - before) / 2**30
    except torch.OutOfMemoryError as error:
        result |= {"fits": False, "error": described(error)}
    model.zero_grad(set_to_none=True)
    return result


def bisect(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to a limit that fits, if all smaller ones do; 0 if none. Doubles first, then halves."""
    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
