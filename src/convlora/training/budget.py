"""Training for a given time: how many optimizer steps fit into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from convlora.reporting import Silent
from convlora.training.arguments import ENDLESS, DeviceArguments
from convlora.training.health import Health
from convlora.training.trainer import SegmentationTrainer

WARM_UP_STEPS = 3  # buffers are allocated, kernels chosen, passes recorded and readers started in them
FEWEST_STEPS = 3
SHARE = 0.05  # of the budget is spent on timing: so much more than readers have in store at the beginning


class Pace(TrainerCallback):
    """Times optimizer steps, with the reading of their images, and ends training when it has seen enough.

    Args:
        enough: Seconds after which it ends, if there were `FEWEST_STEPS`.
        clock: Gives seconds.

    Attributes:
        seconds_per_step: What was found.
    """

    def __init__(self, enough: float, clock: Callable[[], float]) -> None:
        self.enough, self.clock = enough, clock
        self.seconds_per_step = 0.0
        self._begin = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        steps = state.global_step - WARM_UP_STEPS
        if steps == 0:
            self._begin = self._now(args.device)
        elif steps >= FEWEST_STEPS and self.clock() - self._begin >= self.enough:
            self.seconds_per_step = (self._now(args.device) - self._begin) / steps
            control.should_training_stop = True

    def _now(self, device: torch.device) -> float:
        """When the device has done all that it was told to."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return self.clock()


def steps_within(
    seconds: float,
    args: DeviceArguments,
    *,
    model: Any,
    classes: Any,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.perf_counter,
    **trainer: Any,
) -> int:
    """Number of optimizer steps that fit into a time, at least 1.

    Some steps are made as in training and timed; then the weights are put back. (Random generators are seeded when the
    run's own trainer is made.)

    Args:
        seconds: The time. Validation, checkpoints and this timing are not part of it.
        args: Arguments of the run; they are changed.
        model: What is trained.
        classes: Its classes.
        tell: Receives a sentence about the result.
        clock: Gives seconds.
        **trainer: What else [`SegmentationTrainer`] is made of, as in the run.
    """
    tell("Timing some steps.")
    args.max_steps, args.eval_strategy, args.save_strategy = ENDLESS, IntervalStrategy.NO, SaveStrategy.NO
    args.report_to = []
    silent, pace = Silent(), Pace(SHARE * seconds, clock)
    weights = {key: value.detach().to("cpu", copy=True) for key, value in _changing(model)}
    timed = SegmentationTrainer(
        model=model,
        args=args,
        classes=classes,
        reporter=silent,
        health=Health(silent, classes, args.max_grad_norm),
        on_new_best=lambda scores, weights: None,
        on_checkpoint=lambda: None,
        callbacks=[pace],
        **trainer,
    )
    timed.remove_callback(PrinterCallback)
    timed.train()  # accelerate wraps the model for its precision now, and not again for the run's own trainer
    with torch.no_grad():
        for key, value in _changing(model):
            if key in weights:  # tables that were made in the meantime stay
                value.copy_(weights[key])
    model.zero_grad(set_to_none=True)
    each = pace.seconds_per_step
    steps = max(1, int(seconds / each))
    tell(f"A step takes {each:.3g} s: {steps} steps make {seconds:g} s of training.")
    return steps


def _changing(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*((key, p) for key, p in model.named_parameters() if p.requires_grad), *model.named_buffers()]
