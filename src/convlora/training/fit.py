"""Training itself: the trainer of a run, how long it trains, and its end."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers.trainer_callback import PrinterCallback

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import SampleInputError, SegmentationDataset
from convlora.data.kept import KeptImages
from convlora.devices import free_cached_memory
from convlora.errors import InputError, RunError
from convlora.models.configuration import as_size
from convlora.models.replay import Recorder
from convlora.reporting import Reporter, Silent
from convlora.storage import replacing_folder
from convlora.training.arguments import epochs_between_validations, planned_steps, trainer_arguments
from convlora.training.bands import config_reading
from convlora.training.budget import steps_within
from convlora.training.callbacks import FewerValidations, Interruption, LogFile, ProgressReport, StepTimer
from convlora.training.config import RunConfig
from convlora.training.context import Context
from convlora.training.defaults import default_warm_up
from convlora.training.folder import keep_new_adapter, last_checkpoint, new_adapter
from convlora.training.health import Health
from convlora.training.images import Images
from convlora.training.model_card import is_sam, model_card
from convlora.training.passes import Passes, choose_recorder
from convlora.training.steps import reading_interval
from convlora.training.trainer import SegmentationTrainer


class Interrupted(RunError):
    """The run was stopped by the user and can be resumed."""


class Fit:
    """The trainer of a run.

    Args:
        run: The run; how long it trains and warms up is settled in its settings.
        images: What it trains on.
        model: What it trains.
        kept: Where training images are kept between epochs; None: nowhere.

    Attributes:
        trainer: The trainer.
        timer: Measures its steps.
    """

    def __init__(self, run: Context, images: Images, model: PeftModel, kept: KeptImages | None = None) -> None:
        config, count = run.config, images.items
        parts = _parts(run, images, model, kept)
        _settle_length(run, parts, count)
        self.run = run
        self.timer = StepTimer()
        self._interruption = Interruption(run.reporter, reading_interval(run.device))
        every = epochs_between_validations(config, count, run.process.num_processes)
        if every > 1:
            run.reporter.message(f"Validation after every {every} epochs, which are short.")

        def save_adapter(scores: dict[str, float], weights: dict[str, torch.Tensor] | None) -> None:
            _save_adapter(
                model, new_adapter(run.output, self.trainer.state.global_step), config, images.classes, weights
            )

        self.trainer = SegmentationTrainer(
            **parts,
            args=trainer_arguments(config, run.output, run.device, count, run.process.num_processes),
            reporter=run.reporter,
            health=Health(run.reporter, images.classes, config.training.max_grad_norm),
            ema=config.training.ema,
            patience=config.training.patience,
            rates=config.training.rates(),
            passes=Passes(_recorder(run, run.reporter), run.reporter.message),
            on_new_best=save_adapter,
            on_checkpoint=partial(keep_new_adapter, run.output),
            callbacks=[
                self.timer,
                LogFile(run.output / "log.jsonl"),
                ProgressReport(run.reporter),
                FewerValidations(every),
                self._interruption,  # after those that it may have to overrule
            ],
        )
        self.trainer.remove_callback(PrinterCallback)
        if run.checkpoint is not None:
            self.trainer.check_processes(run.checkpoint)  # before anything is written

    def train(self) -> None:
        """Trains, from the checkpoint if there is one.

        Raises:
            InputError: If a file of the data cannot be read any more.
            Interrupted: If the user stopped it; a checkpoint was saved.
        """
        run, trainer = self.run, self.trainer
        if run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if run.checkpoint is not None and trainer.is_complete(run.checkpoint):
            trainer.restore_state(run.checkpoint)
        else:
            if run.process.process_index:  # or the gates of all processes would be given the same noise
                torch.manual_seed(run.config.training.seed + run.process.process_index)
            with self._interruption.listening(), stopping_at_bad_files(run.output):
                trainer.train(resume_from_checkpoint=None if run.checkpoint is None else str(run.checkpoint))
        if self._interruption.stopped or self._interruption.asked_too_late(trainer.args):
            raise Interrupted(
                f"Interrupted after step {trainer.state.global_step}; a checkpoint was saved. Go on with the same "
                "command and --resume."
            )


def _parts(run: Context, images: Images, model: PeftModel, kept: KeptImages | None) -> dict[str, Any]:
    """What two trainers have in common: the one that trains, and the one that times some steps before."""
    config = run.config
    dataset = SegmentationDataset(
        images.train,
        images.classes,
        as_size(config.model.image_size),
        augmentation=str(config.data.augmentation),
        seed=config.training.seed,
        intensity=config_reading(config),
        windows=images.windows,
        kept=kept,
    )
    return {
        "model": model,
        "train_dataset": dataset,
        "val_samples": images.val,
        "tiles": images.tiles,
        "classes": images.classes,
        "precision": run.precision,
        "compile": "none" if config.training.cache else config.training.compile,  # files cannot be recorded
    }


def _settle_length(run: Context, parts: dict[str, Any], images: int) -> None:
    """Fills in the steps that fit into the seconds given, and those in which the learning rate rises."""
    t = run.config.training
    if t.budget_seconds is not None and t.max_steps is None:
        with stopping_at_bad_files(run.output):
            t.max_steps = steps_within(
                t.budget_seconds,
                trainer_arguments(run.config, run.output, run.device, images),
                passes=Passes(_recorder(run, Silent()), Silent().message),
                tell=run.reporter.message,
                **parts,
            )
        gc.collect()  # the trainer that timed, and on a GPU what it recorded
        free_cached_memory()
    if t.warmup_steps is None:
        steps = planned_steps(run.config, images, run.process.num_processes)
        t.warmup_steps = default_warm_up(steps, goes_on=run.config.model.from_run is not None)


def _recorder(run: Context, reporter: Reporter) -> Recorder | None:
    t = run.config.training
    return choose_recorder(
        t.compile,
        run.device,
        processes=run.process.num_processes,
        checkpointing=t.activation_checkpointing,
        cache=t.cache,
        tell=reporter.message,
    )


@contextlib.contextmanager
def stopping_at_bad_files(output: Path) -> Iterator[None]:
    """Adds to the message about a file that went bad in the meantime what becomes of the run."""
    try:
        yield
    except SampleInputError as error:
        checkpoint = last_checkpoint(output)
        advice = "Nothing was saved yet: start again when the file is as it was."
        if checkpoint is not None:
            step = checkpoint.name.rpartition("-")[2]
            advice = f"When it is as it was, go on from step {step} with the same command and --resume."
        raise InputError(f"{str(error).rstrip()} {advice}") from error


def _save_adapter(
    model: PeftModel,
    place: Path,
    config: RunConfig,
    classes: ClassTable,
    weights: dict[str, torch.Tensor] | None,
) -> None:
    with replacing_folder(place) as folder:
        # PEFT would ask the Hub about a vocabulary, which there is none of.
        model.save_pretrained(folder, safe_serialization=True, state_dict=weights, save_embedding_layers=False)
        (folder / "README.md").write_text(
            model_card(config, list(classes.names), is_sam=is_sam(model)), encoding="utf-8"
        )
