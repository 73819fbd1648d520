"""Forward and backward passes of training, recorded where that helps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from convlora.methods.conv_lora import load_balancing_loss
from convlora.models.replay import CannotRecordError, CudaRecorder, Recorder, ReplayedTraining

_MOST_RECORDINGS = 3  # one is enough unless parameters move


class Passes:
    """Calls a model in training: replays a recording where it fits, and calls the model itself otherwise.

    Args:
        recorder: Makes recordings; None if nothing is to be recorded.
        tell: Receives one sentence if the model turns out not to be recordable.
        context: What to call the model in, such as autocast.

    Attributes:
        replayed: Number of passes that were replayed.
        ordinary: Number of all others.
    """

    def __init__(
        self,
        recorder: Recorder | None,
        tell: Callable[[str], None],
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.recorder, self.tell, self.context = recorder, tell, context
        self.replayed = self.ordinary = 0
        self._recording: ReplayedTraining | None = None
        self._shape: torch.Size | None = None
        self._recordings = 0

    def __call__(self, model: Any, pixel_values: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """The output for a batch of images `(B, 3, H, W)`, and the load-balancing loss of the same pass."""
        if self._shape is None:
            self._shape = pixel_values.shape  # the last batch of an epoch may have fewer images
        recording = self._recording
        if recording is not None and not recording.fits(model, pixel_values):
            recording = None
        if recording is None and self.recorder is not None and pixel_values.shape == self._shape:
            recording = self._record(model, pixel_values, self.recorder)
        if recording is not None:
            self.replayed += 1
            return recording(pixel_values)
        self.ordinary += 1
        with self.context():
            return model(pixel_values=pixel_values), load_balancing_loss(model)

    def _record(self, model: Any, pixel_values: torch.Tensor, recorder: Recorder) -> ReplayedTraining | None:
        self._recording = None  # its memory is needed for the next
        try:
            if self._recordings == _MOST_RECORDINGS:
                raise CannotRecordError("its weights keep moving in memory")
            self._recordings += 1
            self._recording = ReplayedTraining(model, pixel_values, recorder, self.context)
        except CannotRecordError as error:
            self.recorder = None
            self.tell(f"Steps are not recorded for the GPU ({error}), so that it may wait for the host.")
        return self._recording


def choose_recorder(
    compile: str, device: torch.device, *, processes: int, checkpointing: bool, cache: bool, tell: Callable[[str], None]
) -> Recorder | None:
    """What records the passes of a run; None where they are not recorded.

    Args:
        compile: `"auto"` or `"none"`, the setting `training.compile`.
        device: Where the run computes.
        processes: How many processes share the run.
        checkpointing: Whether activations are computed again in the backward pass.
        cache: Whether what the frozen blocks make of images is read from disk within the forward pass.
        tell: Receives one sentence if something forbids it.
    """
    if compile == "none" or device.type != "cuda":
        return None
    reasons = {
        "several processes exchange their gradients within the backward pass": processes > 1,
        "activation checkpointing runs the forward pass anew": checkpointing,
        "training.cache reads from disk within the forward pass": cache,
    }
    for reason, applies in reasons.items():
        if applies:
            tell(f"Steps are not recorded for the GPU: {reason}.")
            return None
    return CudaRecorder()
