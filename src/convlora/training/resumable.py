"""transformers' Trainer with checkpoints that hold no pickle, and appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import Trainer, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from convlora.errors import InputError, RunError, is_out_of_memory, quoted, shown
from convlora.ordinary import NotOrdinaryError, ordinary
from convlora.runs.adapters import WEIGHTS, is_from_before, load_weights
from convlora.storage import send_to_disk, swap_folder
from convlora.training.averaging import WeightAverage
from convlora.training.checkpoint import load_state, random_state, restore_random_state, save_state
from convlora.training.expected import check_alike, check_optimizer, check_random_state, check_weights, trained_names
from convlora.training.health import Health
from convlora.training.patience import why_stop
from convlora.training.sharding import (
    is_sharded,
    load_optimizer_state,
    load_trained_weights,
    optimizer_state,
    trained_weights,
)
from convlora.training.steps import StepAccount

_WEIGHTS_NAME = "trained_weights.safetensors"  # where the model is spread over processes
_AVERAGE_NAME = "averaged_weights.safetensors"
_STATE_NAME = "optimizer_state.safetensors"
_TRAINER_STATE = "trainer_state.json"
_SCALER_NAME = "scaler_state.safetensors"


@contextlib.contextmanager
def reading(checkpoint: Path) -> Iterator[None]:
    """Says that a checkpoint is damaged if it cannot be read."""
    try:
        yield
    except InputError:
        raise
    except (
        SafetensorError,
        FileNotFoundError,
        NotOrdinaryError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
    ) as error:
        if is_out_of_memory(error):
            raise  # not the checkpoint's fault; a message that says so would make users delete it
        raise InputError(
            f"The checkpoint {checkpoint} is damaged ({shown(error)}). Delete that folder and start the run again."
        ) from error


def _progress(checkpoint: Path) -> TrainerState:
    for path in checkpoint.iterdir():
        ordinary(path)  # what others read of it, too
    state = TrainerState.load_from_json(str(ordinary(checkpoint / _TRAINER_STATE)))
    history = state.stateful_callbacks.get("history", {"attributes": {}})["attributes"].get("history", [])
    _ = [(entry["epoch"], entry["step"]) for entry in history]
    for value in (
        0 if state.epoch is None else state.epoch,
        state.global_step,
        *(value for entry in history for value in entry.values()),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{quoted(value)} is no number")
    return state


def lay_out_like_weights(optimizer: Any) -> None:
    """Gives the state of an optimizer the strides of its weights, in place.

    Files know none. Kernels that are fused go through the memory of both side by side, whatever the strides are, and
    would take the state of another number.
    """
    for weight, state in getattr(optimizer, "optimizer", optimizer).state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


class ResumableTrainer(Trainer):
    """What of [`convlora.training.trainer.SegmentationTrainer`] concerns checkpoints.

    Attributes:
        history: The scores of every validation so far.
        account: Adds up what is said about steps.
        health: Looks for signs of trouble.
        ema: Decay of the average of the trained weights; None or 0 if there is none.
        patience: Validations without a better score after which training ends; None: it does not.
        average: The average of the trained weights while there is one.
        on_checkpoint: Called when a checkpoint has been written, which knows what was the best so far.
    """

    history: list[dict[str, Any]]
    account: StepAccount
    health: Health
    ema: float | None
    patience: int | None
    average: WeightAverage | None = None
    on_checkpoint: Callable[[], None]
    _checkpoint: Path | None = None  # that is resumed

    def is_complete(self, checkpoint: Path) -> bool:
        """Whether a checkpoint is the last of the run; the Trainer would make a step more before it notices."""
        with reading(checkpoint):
            state = _progress(checkpoint)
            stored = state.stateful_callbacks.get("history", {"attributes": {}})["attributes"].get("history", [])
            return state.global_step >= self.args.max_steps or self.why_stop(stored) is not None

    def why_stop(self, history: list[dict[str, Any]]) -> str | None:
        """Why training should end before its last step, in words; None if it should go on."""
        args: Any = self.args
        return why_stop(history, args.metric_for_best_model, args.greater_is_better, self.patience)

    def why_stopped_early(self) -> str | None:
        """Why training ends before its last step, in words; None if it does not."""
        return self.why_stop(self.history) if self.state.global_step < self.args.max_steps else None

    def averaged(self) -> AbstractContextManager[None]:
        """The model has the weights meanwhile that are validated and kept: the average if there is one."""
        return nullcontext() if self.average is None else self.average.in_place()

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
        """As the Trainer's; [`take_over`] restores what its checkpoints do not hold, just before the first step."""
        self._checkpoint = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def take_over(self) -> None:
        """Restores what the Trainer knows nothing of, once model and optimizer are on their device."""
        if self._checkpoint is not None:
            self._take_over_history()
        if self.ema:
            self.average = WeightAverage(self.model, self.optimizer, self.ema)
            if self._checkpoint is not None:
                self._load_average(self.average, self._checkpoint)

    def _load_average(self, average: WeightAverage, checkpoint: Path) -> None:
        def check(outline: Any) -> None:
            check_alike(outline["updates"], torch.zeros(()))
            check_weights(outline["weights"], self.model, trained_names(self.model))

        with reading(checkpoint):
            average.load_state_dict(load_state(checkpoint / _AVERAGE_NAME, check))

    def check_processes(self, checkpoint: Path) -> None:
        """Refuses a checkpoint of another number of processes, whose steps were of another number of images.

        Raises:
            InputError: If it is one, or damaged.
        """
        with reading(checkpoint):
            state = _progress(checkpoint)
            before = state.stateful_callbacks.get("history", {"attributes": {}})["attributes"].get("processes")
        if before not in (None, self.args.world_size):
            raise InputError(
                f"The checkpoint {checkpoint} was saved by {before} processes, and now there would be "
                f"{self.args.world_size}: the steps would be of other images. Start it with as many as before."
            )

    def restore_state(self, checkpoint: Path) -> None:
        """Takes over the progress and the history of a checkpoint without training."""
        self.state = _progress(checkpoint)
        self._take_over_history()
        if self.is_world_process_zero():
            self.keep_only(checkpoint)  # a process that was killed right after writing it may have left more

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        try:
            self._write_checkpoint(model, trial)
        except (OSError, SafetensorError) as error:
            before = any(Path(self.args.output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
            kept = "The one before is kept. " if before else ""
            raise RunError(
                f"The checkpoint of step {self.state.global_step} cannot be written ({error}). {kept}"
                f"Make room for {self.args.output_dir}, and go on with the same command and --resume."
            ) from error

    def _write_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        unfinished = folder / f".{name}.unfinished"
        if self.is_world_process_zero():
            for left_behind in folder.glob(".*.unfinished"):  # by a process that died
                shutil.rmtree(left_behind, ignore_errors=True)
            unfinished.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self._write_random_state(unfinished)
        sharded = is_sharded(self.model)
        weights = trained_weights(self.model) if sharded else None
        optimizer = optimizer_state(self.model, self.optimizer) if sharded else self.optimizer.state_dict()
        average = None if self.average is None else self.average.state_dict()
        if self.is_world_process_zero():
            if weights is None:
                self.model.save_pretrained(unfinished, safe_serialization=True, save_embedding_layers=False)
            else:
                save_state(unfinished / _WEIGHTS_NAME, weights)
            save_state(unfinished / _STATE_NAME, {"optimizer": optimizer, "scheduler": self.lr_scheduler.state_dict()})
            if average is not None:
                save_state(unfinished / _AVERAGE_NAME, average)
            self._write_scaler(unfinished)
            kept = {
                "history": self.history,
                **self.account.state_dict(),
                "health": self.health.state_dict(),
                "processes": self.args.world_size,
            }
            self.state.stateful_callbacks["history"] = {"args": {}, "attributes": kept}
            self.state.save_to_json(str(unfinished / _TRAINER_STATE))
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            log = folder.parent / "log.jsonl"
            if log.exists():
                send_to_disk(log)  # a run that resumes from this checkpoint keeps the lines up to it
            swap_folder(unfinished, folder / name)
            self.on_checkpoint()
            self.keep_only(folder / name)
        self.accelerator.wait_for_everyone()

    def keep_only(self, checkpoint: Path) -> None:
        """Removes all other checkpoints."""
        for old in checkpoint.parent.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            if old.name != checkpoint.name:
                shutil.rmtree(old, ignore_errors=True)

    # ---- what the Trainer would read with its own loaders, which take whatever lies in the folder ----

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint, sharded = Path(resume_from_checkpoint), is_sharded(self.model)
        names = {True: _WEIGHTS_NAME, False: WEIGHTS}
        if not (checkpoint / names[sharded]).is_file() and (checkpoint / names[not sharded]).is_file():
            raise InputError(
                f"The checkpoint {checkpoint} was saved {'without' if sharded else 'with'} FSDP, and can only be "
                "resumed in that way. Start the program as before."
            )
        with reading(checkpoint):
            if sharded:
                check = partial(check_weights, model=self.model, needed=trained_names(self.model))
                load_trained_weights(self.model, load_state(checkpoint / _WEIGHTS_NAME, check))
            elif is_from_before(self.model, checkpoint / WEIGHTS):
                raise InputError(
                    f"The run of {checkpoint} began with an older version of convlora, whose heads for several classes "
                    "had fewer weights. Resume it with that version, or start a new run with another --output."
                )
            else:
                load_weights(self.model, checkpoint / WEIGHTS)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        names = {id(value): name for name, value in self.model.named_parameters()} if is_sharded(self.model) else None

        def check(outline: Any) -> None:
            check_optimizer(outline["optimizer"], self.optimizer, names)

        with reading(Path(checkpoint)):
            state = load_state(Path(checkpoint) / _STATE_NAME, check)
            for saved, group in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
                # What belongs to the program and not to the run: older versions used other kernels.
                saved.update({name: group[name] for name in ("foreach", "fused") if name in group})
        if is_sharded(self.model):
            load_optimizer_state(self.model, self.optimizer, state["optimizer"])
        else:
            self.optimizer.load_state_dict(state["optimizer"])
            lay_out_like_weights(self.optimizer)
        self.lr_scheduler.load_state_dict(state["scheduler"])
        # The rate stored is that of the schedule it was saved in, which a run that is made longer leaves behind: at its
        # end it was 0.
        schedule: Any = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        rates = [rate * factor(schedule.last_epoch) for rate, factor in zip(schedule.base_lrs, schedule.lr_lambdas)]
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        schedule._last_lr = rates

    def _load_scaler(self, checkpoint: str | None) -> None:
        scaler = getattr(self.accelerator, "scaler", None)
        if checkpoint is not None and scaler is not None and (Path(checkpoint) / _SCALER_NAME).exists():
            with reading(Path(checkpoint)):
                check = partial(check_alike, own=scaler.state_dict())
                scaler.load_state_dict(load_state(Path(checkpoint) / _SCALER_NAME, check))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = self._random_state_path(Path(checkpoint))
        if path.exists():  # a run resumed with more processes than it was saved with has none for the new ones
            with reading(Path(checkpoint)):
                restore_random_state(load_state(path, check_random_state))

    # ---- what goes with them ----

    def _write_scaler(self, folder: Path) -> None:
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None:
            save_state(folder / _SCALER_NAME, scaler.state_dict())

    def _write_random_state(self, folder: Path) -> None:
        save_state(self._random_state_path(folder), random_state())

    def _random_state_path(self, folder: Path) -> Path:
        return folder / f"random_state_{self.args.process_index}.safetensors"

    def _take_over_history(self) -> None:
        stored = self.state.stateful_callbacks.get("history")
        if stored:
            with reading(self._checkpoint or Path(self.args.output_dir)):
                self.history = stored["attributes"].get("history", self.history)
                self.account.load_state_dict(stored["attributes"])
                if "health" in stored["attributes"]:
                    self.health.load_state_dict(stored["attributes"]["health"])
