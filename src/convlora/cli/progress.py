"""Progress bars for commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from convlora.cli.console import err

if TYPE_CHECKING:
    from convlora.prepare.catalogue import RemoteFile


def progress_bar() -> Progress:
    """A progress bar on stderr, gone when done; nothing at all when stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def track(items: Iterable[Any], text: str) -> Iterator[Any]:
    """Iterates with a progress bar."""
    with progress_bar() as bar:
        task = bar.add_task(text, total=len(items) if isinstance(items, Sized) else None, note="")
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def byte_bars() -> Iterator[Callable[[RemoteFile], Callable[[int, int | None], None]]]:
    """Yields what makes a progress bar for a file that is fetched."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bars:

        def begin(file: RemoteFile) -> Callable[[int, int | None], None]:
            err.print(f"Fetching {file.url}", markup=False, soft_wrap=True)
            task = bars.add_task(escape(file.name), total=None)
            return lambda there, total: bars.update(task, completed=there, total=total)

        yield begin


class RunProgress:
    """Shows the progress of a training run: a bar on a terminal, a line per epoch everywhere."""

    def __init__(self) -> None:
        self.bar = progress_bar()
        self._training: TaskID | None = None
        self._scoring: TaskID | None = None
        self._predicting: TaskID | None = None
        self._windows: TaskID | None = None

    def __enter__(self) -> RunProgress:
        self.bar.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.bar.stop()

    def message(self, text: str) -> None:
        """Prints a sentence above the bar."""
        err.print(text, markup=False, soft_wrap=True)

    def track(self, items: Iterable[Any], text: str) -> Iterator[Any]:
        """Iterates with a bar of its own."""
        task = self.bar.add_task(text, total=len(items) if isinstance(items, Sized) else None, note="")
        for item in items:
            yield item
            self.bar.advance(task)
        self.bar.remove_task(task)

    def train_begin(self, total_steps: int, first_step: int) -> None:
        """Opens the training bar."""
        if first_step:
            err.print(f"Going on after step {first_step} of {total_steps}.")
        self._training = self.bar.add_task("Training", total=total_steps, completed=first_step, note="")

    def step(self, step: int, epoch: float, loss: float | None) -> None:
        """Moves it."""
        if self._training is not None:
            note = f"epoch {epoch:.1f}" + ("" if loss is None else f", loss {loss:.3f}")
            self.bar.update(self._training, completed=step, note=note)

    def train_end(self) -> None:
        """Closes it."""
        if self._training is not None:
            self.bar.remove_task(self._training)
            self._training = None

    def validate_begin(self, total_images: int, what: str) -> None:
        """Opens a second bar for scoring."""
        self._scoring = self.bar.add_task(f"Scoring {escape(what)}", total=total_images, note="")

    def validate_step(self, images: int) -> None:
        """Moves it."""
        if self._scoring is not None:
            self.bar.advance(self._scoring, images)

    def validate_end(self, epoch: int | None, scores: dict[str, float], select_by: str, is_best: bool) -> None:
        """Closes it, and prints the scores of an epoch."""
        if self._scoring is not None:
            self.bar.remove_task(self._scoring)
            self._scoring = None
        if epoch is not None:
            shown = dict.fromkeys((select_by, "iou", "dice", "iou_pooled", "mean_accuracy", "accuracy"))
            text = ", ".join(f"{name} {scores[name]:.4f}" for name in shown if name in scores)
            err.print(f"Epoch {epoch}: validation {text}{' (best so far)' if is_best else ''}", soft_wrap=True)

    def predict_begin(self, total_images: int | None) -> None:
        """Opens the bar of a prediction."""
        self._predicting = self.bar.add_task("Predicting", total=total_images, note="")

    def predict_step(self, images: int) -> None:
        """Moves it."""
        if self._predicting is not None:
            self.bar.advance(self._predicting, images)

    def windows(self, done: int, total: int) -> None:
        """Moves a second bar for the windows of the current image."""
        if self._windows is None:
            self._windows = self.bar.add_task("Windows", total=total, note="")
        if done == 0:
            self.bar.reset(self._windows, total=total)
        self.bar.update(self._windows, completed=done)

    def predict_end(self) -> None:
        """Closes both."""
        for task in (self._predicting, self._windows):
            if task is not None:
                self.bar.remove_task(task)
        self._predicting = self._windows = None
