"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Reporter(Protocol):
    """Receives the progress of a run; the command line shows it, a program may ignore it."""

    def message(self, text: str) -> None:
        """A sentence worth reading."""

    def track(self, items: Iterable[Any], text: str) -> Iterable[Any]:
        """Iterates over things that take a while."""

    def train_begin(self, total_steps: int, first_step: int) -> None:
        """Training starts, or goes on from `first_step`."""

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


class Silent:
    """Ignores everything."""

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
