"""What happens beside the training loop: the log file, progress, timing, interruption."""

from __future__ import annotations

import json
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from convlora.errors import RunError
from convlora.links import open_own
from convlora.reporting import Reporter
from convlora.storage import finite, write_text
from convlora.training.choices import entry_of
from convlora.untrusted import parse_lines

PATIENCE = 30.0  # seconds that a run which is to end waits for images
WARM_UP_STEPS = 2  # not counted in the time per step: buffers are allocated and kernels chosen in them


class StepTimer(TrainerCallback):
    """Measures optimizer steps, without validation and checkpoints.

    On a GPU, which makes a step after it was launched, the GPU's own clock is read, when the step is over.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begin: Any = None
        self._steps: deque[tuple[Any, Any]] = deque()  # begin and end of those that may not be over

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        self._begin = _moment(args.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        self._steps.append((self._begin, _moment(args.device)))
        self._measure(wait=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        self._measure(wait=True)

    def _measure(self, wait: bool) -> None:
        while self._steps:
            begin, end = self._steps[0]
            if isinstance(end, float):
                self.seconds.append(end - begin)
            else:
                if wait:
                    end.synchronize()
                elif not end.query():
                    return
                self.seconds.append(begin.elapsed_time(end) / 1000)
            self._steps.popleft()

    @property
    def median(self) -> float | None:
        """Median seconds per optimizer step, None before the first."""
        counted = self.seconds[WARM_UP_STEPS:] or self.seconds
        return statistics.median(counted) if counted else None


def _moment(device: torch.device) -> Any:
    """Now: seconds on a CPU, a recorded event on a GPU."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class LogFile(TrainerCallback):
    """Appends one JSON object per logging step to `log.jsonl`.

    Runs with a gate also have `expert_shares` and `expert_entropy`, see `convlora.training.choices`.

    A resumed run drops the lines of steps it is about to repeat, so that no step stands there twice. The seconds of a
    line are those at which its step was launched, however much later it is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seconds_before = 0.0
        self._begin = 0.0
        self._seconds: dict[int, float] = {}  # by step, until its line is written

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:  # noqa: D102
        if not state.is_world_process_zero:
            return
        kept = []
        if state.global_step and self.path.exists():
            with open_own(self.path, "r") as file:
                kept = [entry for entry in parse_lines(file.read()) if _is_line(entry, state.global_step)]
            self._seconds_before = kept[-1]["seconds"] if kept else 0.0
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._begin = time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:  # noqa: D102
        if state.is_world_process_zero:
            self._seconds[state.global_step] = self._seconds_before + time.perf_counter() - self._begin

    def on_log(  # noqa: D102
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or logs is None or "task_loss" not in logs:
            return
        seconds = self._seconds[state.global_step]
        self._seconds = {step: value for step, value in self._seconds.items() if step > state.global_step}
        entry = {
            "step": state.global_step,
            "epoch": round(state.epoch or 0.0, 4),
            "loss": logs["loss"],
            "task_loss": logs["task_loss"],
            "load_balancing_loss": logs["load_balancing_loss"],
            "lr": logs["learning_rate"],
            "grad_norm": logs.get("grad_norm"),
            "seconds": round(seconds, 3),
            **entry_of(logs),
        }
        with open_own(self.path, "a") as file:
            file.write(json.dumps(finite(entry)) + "\n")


def _is_line(entry: dict[str, Any], last_step: int) -> bool:
    """Whether an entry of the log is one of ours, up to a step."""
    step, seconds = entry.get("step"), entry.get("seconds")
    return isinstance(step, int) and step <= last_step and isinstance(seconds, (int, float))


class ProgressReport(TrainerCallback):
    """Passes progress on to a [`Reporter`]."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self._loss: float | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:  # noqa: D102
        if state.is_world_process_zero:
            self.reporter.train_begin(state.max_steps, state.global_step)

    def on_log(  # noqa: D102
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if logs is not None and "task_loss" in logs:
            self._loss = logs["loss"]

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:  # noqa: D102
        if state.is_world_process_zero:
            self.reporter.step(state.global_step, state.epoch or 0.0, self._loss)

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:  # noqa: D102
        if state.is_world_process_zero:
            self.reporter.train_end()


class OnTrainBegin(TrainerCallback):
    """Calls something when model and optimizer are ready, before the first step.

    Args:
        call: What.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:  # noqa: D102
        self.call()


class EpochOrder(TrainerCallback):
    """Tells the sampler which epoch begins, through whatever the loader was wrapped in."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:  # noqa: D102
        # Between epochs it is a whole number up to rounding; a run resumed within an epoch is past it.
        self.sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))


class FewerValidations(TrainerCallback):
    """Validates, and saves a checkpoint, after every so many epochs and at the end.

    Args:
        every: So many epochs.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_epoch_end(  # noqa: D102
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if round(state.epoch or 0.0) % self.every and state.global_step < state.max_steps:
            control.should_evaluate = False
            control.should_save = control.should_training_stop  # a run that is interrupted here loses nothing
        return control


class Interruption(TrainerCallback):
    """Ends the run cleanly on Ctrl-C or SIGTERM: the step is finished, a checkpoint is saved.

    A second Ctrl-C ends it at once. So does the first signal where the step cannot be finished, because no image comes
    for [`PATIENCE`] seconds: a disk does not answer, say.

    Args:
        reporter: Receives the message.
        every: Several processes ask each other after so many steps, for which they wait for their devices.
    """

    def __init__(self, reporter: Reporter, every: int = 1) -> None:
        self.reporter = reporter
        self.every = every
        self.requested = False
        self._handled = False
        self._at_epoch_end = False
        self._waiting_since: float | None = None  # for the images of the next step

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens to the signals while training; elsewhere they do what they always do."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread only
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def request(number: int, frame: Any) -> None:
            self.requested = True
            # SIGTERM may come twice, from a cluster's queue and passed on by a launcher: only Ctrl-C is impatience.
            signal.signal(signal.SIGINT, before[signal.SIGINT])
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.reporter.message("Finishing this step or validation, then saving. Ctrl-C again stops at once.")
            if alarm is not None:
                before[alarm] = signal.signal(alarm, self._give_up)
                signal.setitimer(signal.ITIMER_REAL, PATIENCE / 10, PATIENCE / 10)

        for number in before:
            signal.signal(number, request)
        alarm = getattr(signal, "SIGALRM", None)  # Windows has none
        try:
            yield
        finally:
            if alarm in before:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _give_up(self, number: int, frame: Any) -> None:
        since = self._waiting_since
        if since is not None and not self._handled and time.monotonic() - since > PATIENCE:
            raise RunError(
                f"Interrupted before the step was finished, because no image came for {PATIENCE:.0f} seconds. Look at "
                "the disk with the data, and go on from the last checkpoint with the same command and --resume."
            )

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        self._waiting_since = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        self._waiting_since = None

    def on_step_end(  # noqa: D102
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self._waiting_since = time.monotonic()
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last step too, whatever the interval
        if args.world_size > 1 and state.global_step % self.every and not _is_epoch_end(state):
            return control
        if self._agreed(args):
            self._handled = True
            control.should_training_stop = True
            # At the end of an epoch its validation belongs to the checkpoint, or the resumed run would lack it.
            self._at_epoch_end = _is_epoch_end(state)
            control.should_save = not self._at_epoch_end
        return control

    def on_epoch_end(  # noqa: D102
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self._waiting_since = None
        if self._handled and not self._at_epoch_end:
            control.should_save = False  # it was, after the step
            control.should_evaluate = False
        return control

    def on_evaluate(  # noqa: D102
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self._agreed(args):  # the checkpoint of the epoch comes next
            self._handled = True
            control.should_training_stop = True
        return control

    def _agreed(self, args: TrainingArguments) -> bool:
        """Whether any process was asked to stop; they must stop at the same step."""
        if args.world_size > 1:
            flag = torch.tensor(int(self.requested), device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self.requested = bool(flag.item())
        return self.requested

    def asked_too_late(self, args: TrainingArguments) -> bool:
        """Whether any process was asked to stop when nothing was left but to save: what comes after is not done."""
        return not self._handled and self._agreed(args)

    @property
    def stopped(self) -> bool:
        """Whether training was ended by it."""
        return self._handled


def _is_epoch_end(state: TrainerState) -> bool:
    epoch = state.epoch or 0.0
    return abs(epoch - round(epoch)) < 1e-6 or state.global_step >= state.max_steps
