"""The exponential moving average of the weights that are trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from convlora.training.sharding import (
    is_sharded,
    load_trained_weights,
    own_part,
    reshard,
    trained_weights,
    whole_number,
)


class WeightAverage:
    """Averages the trained weights of a model over its optimizer steps.

    `average <- d * average + (1 - d) * weights` with `d = min(decay, (1 + n) / (10 + n))` in step `n`, from 0: the
    first weights, which are random or of another task, are soon forgotten. Frozen weights are not copied. Buffers of
    trained modules, such as the statistics of batch normalisation, are those of the training: they are moving averages
    by themselves, and `torch.optim.swa_utils.AveragedModel` takes them over, too.

    It follows the optimizer by itself. Nothing waits for the device, and a step that is skipped there leaves no trace.

    Args:
        model: The model to be trained, where it is trained; its weights may be spread over processes.
        optimizer: A PyTorch optimizer of its weights, or what accelerate wraps around one.
        decay: Above 0 and below 1, such as 0.99.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the warm-up is that of
        `tf.train.ExponentialMovingAverage`.
    """

    def __init__(self, model: nn.Module, optimizer: Any, decay: float) -> None:
        self._model, self.decay = model, decay
        self._is_spread = is_sharded(model)  # asked now: after a pass a process may hold whole weights
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._names, self._parameters = list(trained), list(trained.values())
        self._average = [part.clone() for part in self._parts()]
        self._updates = torch.zeros((), device=self._average[0].device)  # counted there, or skipped steps would be
        getattr(optimizer, "optimizer", optimizer).register_step_post_hook(self._after_step)

    def _parts(self) -> list[torch.Tensor]:
        """What this process holds of each weight, in place."""
        return [own_part(parameter) for parameter in self._parameters]

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if any(parameter.grad is not None for parameter in self._parameters):  # or the host has skipped the step
            # Set by a `GradScaler`, or as in `convlora.training.steps.skip_on_device`.
            self._update(getattr(optimizer, "found_inf", None))

    @torch.no_grad()
    def _update(self, skip: torch.Tensor | None) -> None:
        made = torch.ones_like(self._updates) if skip is None else (whole_number(skip) == 0).to(self._updates.dtype)
        share = made * (9 / (10 + self._updates)).clamp(min=1 - self.decay)  # is 1 - d
        # `_foreach_lerp_` takes numbers of the host only, or one tensor for each weight.
        steps = torch._foreach_sub(self._parts(), self._average)
        torch._foreach_mul_(steps, share)
        torch._foreach_add_(self._average, steps)
        self._updates += made

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights meanwhile, where its own are otherwise: recordings stay valid."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        reshard(self._model)
        parts = self._parts()
        held = [part.clone() for part in parts]
        torch._foreach_copy_(parts, self._average)
        torch._foreach_copy_(self._average, held)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps. If the model is spread over processes, all must call it."""
        if self._is_spread:
            with self.in_place():  # cloned, because of a single process these are the weights themselves
                weights = {name: value.clone() for name, value in trained_weights(self._model).items()}
        else:
            weights = dict(zip(self._names, self._average, strict=True))
        return {"updates": self._updates, "weights": weights}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what [`state_dict`] returned."""
        self._updates.copy_(state["updates"])
        if self._is_spread:
            with self.in_place():
                load_trained_weights(self._model, state["weights"])
        else:
            for average, name in zip(self._average, self._names, strict=True):
                average.copy_(state["weights"][name])
