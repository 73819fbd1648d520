"""What optimizer steps leave behind, and how it reaches the host without a wait for the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

LOSSES = ("task_loss", "load_balancing_loss")
_EVERY = 10  # steps between two looks at a GPU


def reading_interval(device: torch.device) -> int:
    """After how many optimizer steps their values are read: a GPU would be waited for."""
    return _EVERY if device.type == "cuda" else 1


def skip_on_device(optimizer: Any, skip: torch.Tensor) -> bool:
    """Leaves it to an optimizer's own kernels whether its next step changes anything.

    Args:
        optimizer: A fused optimizer of PyTorch, or what accelerate wraps around one. It leaves weights, moments and
            its count of steps as they are.
        skip: 1.0 to skip, 0.0 otherwise; a scalar in single precision.

    Returns:
        False if the optimizer has no such kernels.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    if not getattr(inner, "_step_supports_amp_scaling", False):
        return False
    inner.found_inf = skip  # as `torch.amp.GradScaler` does it
    return True


def tell_by_gradients(loss: torch.Tensor) -> torch.Tensor:
    """The same loss; if it is not finite, all of its gradients become nan, which a `GradScaler` looks for."""
    return loss * (loss.detach() * 0 + 1)


@dataclass
class Step:
    """An optimizer step whose values are still on the device.

    Attributes:
        number: Which one, from 1.
        passes: Forward passes in it.
        values: Single precision: 1 if it is skipped, the norm of its gradients, the sums of [`LOSSES`] over its forward
            passes, and the counts of `convlora.methods.conv_lora.balance.layer_usage`, if there are any.
        epoch: At its end.
        line: What else the log says of it; None if no line of the log ends with it.
        experts: How many a layer has; 0 without counts.
    """

    number: int
    passes: int
    values: torch.Tensor
    epoch: float = 0.0
    line: dict[str, float] | None = None
    experts: int = 0


class PendingSteps:
    """Steps whose values have not reached the host yet.

    The values of several steps travel in one copy, and are read one step after it was started, when the device
    has finished it.

    Args:
        every: So many steps travel together. With 1 they are there at once.
        share: What processes do to a table of values `(steps, 4)` before it travels.
    """

    def __init__(self, every: int, share: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.every, self.share = every, share
        self._waiting: list[Step] = []
        self._under_way: tuple[list[Step], torch.Tensor, torch.cuda.Event | None] | None = None

    def append(self, step: Step) -> None:
        """Adds a step that was just launched."""
        self._waiting.append(step)

    def add_line(self, epoch: float, line: dict[str, float]) -> None:
        """Asks for a line of the log that ends with the last step."""
        self._waiting[-1].epoch, self._waiting[-1].line = epoch, line

    def take(self, now: bool) -> list[tuple[Step, list[float]]]:
        """The steps whose values have arrived since the last call, in order, with their values.

        Args:
            now: Wait for all of them.
        """
        arrived = self._arrive()
        if self._waiting and (now or len(self._waiting) >= self.every):
            self._send()
            if now or self.every == 1:
                arrived += self._arrive()
        return arrived

    def _send(self) -> None:
        table = self.share(torch.stack([step.values for step in self._waiting]))
        arrival = None
        copy = table.to("cpu", non_blocking=table.is_cuda)  # into pinned memory
        if table.is_cuda:
            arrival = torch.cuda.Event()
            arrival.record()
        self._under_way, self._waiting = (self._waiting, copy, arrival), []

    def _arrive(self) -> list[tuple[Step, list[float]]]:
        if self._under_way is None:
            return []
        steps, copy, arrival = self._under_way
        self._under_way = None
        if arrival is not None:
            arrival.synchronize()
        return list(zip(steps, copy.tolist(), strict=True))


class StepAccount:
    """Adds up what the log and the end of a run say about steps, in their order.

    Attributes:
        skipped_steps: Steps whose loss or gradients were not finite.
        skipped_in_a_row: How many of these came last, without another step in between.
        last_norm: Norm of the gradients in the last step that was not skipped.
    """

    def __init__(self) -> None:
        self.skipped_steps = 0
        self.skipped_in_a_row = 0
        self.last_norm: float | None = None
        self._begin_line()

    def _begin_line(self) -> None:
        self._sums, self._passes = dict.fromkeys(LOSSES, 0.0), 0  # since the last line

    def add(self, norm: float, losses: list[float], passes: int) -> None:
        """Counts a step that was made."""
        for name, total in zip(LOSSES, losses, strict=True):
            self._sums[name] += total
        self._passes += passes
        self.skipped_in_a_row, self.last_norm = 0, norm

    def skip(self) -> None:
        """Counts a step that was skipped."""
        self.skipped_steps += 1
        self.skipped_in_a_row += 1

    def end_line(self) -> dict[str, float]:
        """Means since the last line of the log, nan if all steps were skipped; the next line begins."""
        means = {name: total / self._passes if self._passes else math.nan for name, total in self._sums.items()}
        self._begin_line()
        return {"loss": sum(means.values()), **means}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "skipped_steps": self.skipped_steps,
            "_skipped_in_a_row": self.skipped_in_a_row,
            "since_log": {"sums": dict(self._sums), "summed": self._passes},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what [`state_dict`] returned; what an older checkpoint lacks stays as it is."""
        self.skipped_steps = state.get("skipped_steps", self.skipped_steps)
        self.skipped_in_a_row = state.get("_skipped_in_a_row", self.skipped_in_a_row)
        if state.get("since_log") is not None:
            self._sums, self._passes = dict(state["since_log"]["sums"]), state["since_log"]["summed"]
