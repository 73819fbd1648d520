"""Optimizer steps as the trainer makes them, on batches that are on the device already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from harness import forward_flops, matrix_rate, step_seconds
from kinds import Kind, adapted, loss_of, random_batch, sam_config, segmenter, trained_parameters
from torch import nn

from convlora.models.autocast import autocast
from convlora.models.replay import CudaRecorder, Recorder, Repeater
from convlora.training.passes import Passes
from gpu_parts.session import Plan, Unavailable

Batch = dict[str, torch.Tensor]
Step = Callable[[Sequence[Batch]], torch.Tensor]  # one optimizer step; returns the mean loss, detached


class EagerStep:
    """One optimizer step, operation by operation."""

    def __init__(self, model: nn.Module, device: torch.device, precision: str, lr: float = 1e-4) -> None:
        self.model, self.device, self.precision = model, device, precision
        self.optimizer = torch.optim.AdamW(trained_parameters(model), lr=lr, fused=True)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch."""
        return loss_of(self.model, batch, self.device, self.precision)

    def __call__(self, batches: Sequence[Batch]) -> torch.Tensor:
        """Accumulates the gradients of some batches and updates the weights."""
        total = torch.zeros((), device=self.device)
        for batch in batches:
            loss = self.loss(batch) / len(batches)
            loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(trained_parameters(self.model), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total


class RecordedStep(EagerStep):
    """One optimizer step, with the passes of the model replayed from recordings."""

    def __init__(self, model: nn.Module, device: torch.device, precision: str, recorder: Recorder) -> None:
        super().__init__(model, device, precision)
        self.passes = Passes(recorder, refuse, lambda: autocast(device, precision))

    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch."""
        output, balance = self.passes(self.model, batch["pixel_values"])
        return self.model.base_model.model.loss_of(output, batch["labels"]) + balance


def refuse(reason: str) -> None:
    """What is measured must not be something else."""
    raise Unavailable(reason)


def make_step(model: nn.Module, device: torch.device, precision: str, compile: str = "none") -> Step:
    """A step with the setting `training.compile`: "none" is eager, "auto" replays CUDA graphs.

    On a CPU a stand-in does the same work without graphs, so that a dry run sees this too.
    """
    if compile == "none":
        return EagerStep(model, device, precision)
    return RecordedStep(model, device, precision, CudaRecorder() if device.type == "cuda" else Repeater())


def prepared(
    size: str, kind: Kind, batch_size: int, plan: Plan, batches: int = 1
) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    """A model of a kind, and a step of it on random images."""
    base = segmenter(size, plan.image_size, attention=kind.attention, device=plan.device, num_classes=plan.classes)
    model = adapted(base, kind, plan.precision, plan.device)
    step = make_step(model, plan.device, plan.precision, kind.compile)
    images = [random_batch(batch_size, plan.image_size, plan.classes, plan.device) for _ in range(batches)]
    return model, lambda: step(images)


def timed(work: Callable[[], object], plan: Plan) -> tuple[list[float], dict[str, float]]:
    """Seconds of the counted steps, and on a GPU the most memory in GiB, weights and warm-up included.

    What is allocated leaves out the buffers that CUDA graphs keep for their replay; what is reserved has them.
    """
    if plan.device.type != "cuda":
        return step_seconds(work, plan.warm_up, plan.steps, plan.device), {}
    torch.cuda.reset_peak_memory_stats()
    seconds = step_seconds(work, plan.warm_up, plan.steps, plan.device)
    peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return seconds, {"peak GiB": peak / 2**30, "reserved GiB": reserved / 2**30}


@lru_cache
def image_flops(size: str, image_size: int) -> int:
    """See `harness.forward_flops`."""
    return forward_flops(sam_config(size), image_size)


@lru_cache
def rate_of(device: torch.device, precision: str) -> float:
    """See `harness.matrix_rate`; measured once."""
    return matrix_rate(device, precision)
