"""A model's answers to batches of images, recorded where that helps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any

import torch

from convlora.models.replay import CannotRecordError, CudaRecorder, Recorder, ReplayedForward

RECORDED_FROM = 3  # making a recording takes about as long as three batches
_MOST_SHAPES = 2


class Answers:
    """Calls a model in evaluation mode: replays a recording where there is one, and calls the model itself otherwise.

    A shape of batches is recorded when it comes for the third time.

    Args:
        recorder: Makes recordings; None if nothing is to be recorded.
        context: What to call the model in, such as autocast.

    Attributes:
        replayed: Number of batches that were replayed.
    """

    def __init__(
        self, recorder: Recorder | None, context: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self.recorder, self.context = recorder, context
        self.replayed = 0
        self._lock = Lock()  # a recording has one place for its input
        self._seen: dict[torch.Size, int] = {}
        self._recordings: dict[torch.Size, ReplayedForward] = {}

    def __call__(self, model: Any, pixel_values: torch.Tensor) -> Any:
        """The model's output for images `(B, 3, H, W)`."""
        if self.recorder is not None:
            with self._lock:
                output = self._replay(model, pixel_values, self.recorder)
            if output is not None:
                return output
        with self.context():
            return model(pixel_values=pixel_values)

    def _replay(self, model: Any, pixel_values: torch.Tensor, recorder: Recorder) -> Any:
        """The output by a recording; None if there is none for such a batch."""
        shape = pixel_values.shape
        self._seen[shape] = self._seen.get(shape, 0) + 1
        recording = self._recordings.get(shape)
        if recording is not None and not recording.fits(model, pixel_values):  # the weights moved, or another adapter
            del self._recordings[shape]
            recording, self._seen[shape] = None, 1
        if recording is None and self._is_due(shape):
            try:
                recording = ReplayedForward(model, pixel_values, recorder, self.context)
                self._recordings[shape] = recording
            except CannotRecordError:  # it only takes longer
                self.recorder = None
        if recording is None:
            return None
        self.replayed += 1
        return recording(pixel_values)

    def _is_due(self, shape: torch.Size) -> bool:
        return self._seen[shape] >= RECORDED_FROM and len(self._recordings) < _MOST_SHAPES


def recorder_for(device: torch.device, compile: str = "auto") -> Recorder | None:
    """What records a model's answers on a device; None where it is not worth it.

    Args:
        device: Where the model is.
        compile: `"auto"` or `"none"`, the setting `training.compile`.
    """
    return CudaRecorder() if device.type == "cuda" and compile != "none" else None
