"""Progress and messages of long work: training, scoring, prediction."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Protocol

from convlora.words import in_python

LOGGER = logging.getLogger("convlora")


class Reporter(Protocol):
    """Receives progress and messages. The commands show them, [`Logged`] logs them, [`Silent`] drops them."""

    def message(self, text: str) -> None:
        """A sentence worth reading."""

    def track(self, items: Iterable[Any], text: str) -> Iterable[Any]:
        """Iterates over things that take a while."""

    def train_begin(self, total_steps: int, first_step: int) -> None:
        """Training starts, or resumes at `first_step`."""

    def step(self, step: int, epoch: float, loss: float | None) -> None:
        """An optimizer step is done; the loss is there if it was logged."""

    def validate_begin(self, total_images: int, what: str) -> None:
        """Images are about to be scored."""

    def validate_step(self, images: int) -> None:
        """So many more images are scored."""

    def validate_end(self, epoch: int | None, scores: dict[str, float], select_by: str, is_best: bool) -> None:
        """The scores of a pass over the validation images."""

    def train_end(self) -> None:
        """Training is over."""

    def predict_begin(self, total_images: int | None) -> None:
        """Images are about to be segmented; None: nobody knows yet how many."""

    def predict_step(self, images: int) -> None:
        """So many more images are segmented."""

    def windows(self, done: int, total: int) -> None:
        """So many windows of the current image are segmented."""

    def predict_end(self) -> None:
        """All images are segmented."""


class Silent:
    """Drops everything."""

    def message(self, text: str) -> None:  # noqa: D102
        pass

    def track(self, items: Iterable[Any], text: str) -> Iterable[Any]:  # noqa: D102
        return items

    def train_begin(self, total_steps: int, first_step: int) -> None:  # noqa: D102
        pass

    def step(self, step: int, epoch: float, loss: float | None) -> None:  # noqa: D102
        pass

    def validate_begin(self, total_images: int, what: str) -> None:  # noqa: D102
        pass

    def validate_step(self, images: int) -> None:  # noqa: D102
        pass

    def validate_end(self, epoch: int | None, scores: dict[str, float], select_by: str, is_best: bool) -> None:  # noqa: D102
        pass

    def train_end(self) -> None:  # noqa: D102
        pass

    def predict_begin(self, total_images: int | None) -> None:  # noqa: D102
        pass

    def predict_step(self, images: int) -> None:  # noqa: D102
        pass

    def windows(self, done: int, total: int) -> None:  # noqa: D102
        pass

    def predict_end(self) -> None:  # noqa: D102
        pass


class Logged(Silent):
    """Logs messages and validation scores to the logger "convlora" at the level INFO; the default of the Python API.

    `logging.basicConfig(level=logging.INFO)` shows them.
    """

    def message(self, text: str) -> None:
        """Logs a sentence in the words of a Python user."""
        LOGGER.info("%s", in_python(text))

    def validate_end(self, epoch: int | None, scores: dict[str, float], select_by: str, is_best: bool) -> None:
        """Logs the score of an epoch."""
        if epoch is not None:
            best = " (best so far)" if is_best else ""
            LOGGER.info("Epoch %d: validation %s %.4f%s", epoch, select_by, scores[select_by], best)
