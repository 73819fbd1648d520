"""A training run from settings to run folder."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from peft import PeftModel
from safetensors import SafetensorError
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback

from convlora.cores import peak_resident_bytes
from convlora.data.classes import ClassTable
from convlora.data.dataset import SampleInputError, SegmentationDataset
from convlora.data.reach import CELL, describe_size
from convlora.data.sample import Sample
from convlora.data.sources import DataSource
from convlora.devices import free_cached_memory, resolve_device, resolve_precision, set_matmul_precision, use_device
from convlora.errors import InputError, RunError
from convlora.inference.adapters import WEIGHTS, load_weights
from convlora.inference.runs import SAM, adapter_folder, check_sam, first_line, read_classes, read_metrics
from convlora.inference.scoring import new_baselines
from convlora.locking import LOCK, only_one
from convlora.losses import SetLossSettings
from convlora.methods.registry import apply_method, find_method
from convlora.metrics import MultiClassScores
from convlora.models import SamForSemanticSegmentation, SegmentationModel
from convlora.models.bundled import absolute
from convlora.models.configuration import as_size, encoder_width
from convlora.models.detail import AUTO
from convlora.models.fingerprint import sample_weights
from convlora.models.layer_names import MODULES_TO_SAVE, sam_layers
from convlora.models.loading import load_model
from convlora.models.parameters import count_parameters, halve_frozen_weights
from convlora.models.random_sam import randomize
from convlora.models.replay import Recorder
from convlora.models.room import check_room
from convlora.report.confusion import write_confusion
from convlora.reporting import Reporter, Silent
from convlora.storage import make_folder, replacing_folder, write_json, write_text
from convlora.training.arguments import epochs_between_validations, planned_steps, trainer_arguments
from convlora.training.budget import steps_within
from convlora.training.cache import end_cache, start_cache
from convlora.training.callbacks import FewerValidations, Interruption, LogFile, ProgressReport, StepTimer
from convlora.training.config import Precision, RunConfig
from convlora.training.defaults import default_warm_up, settle_choices, settle_epochs, settle_rates
from convlora.training.effects import check_effects
from convlora.training.folder import check_folder, check_resumed, keep_new_adapter, last_checkpoint, new_adapter
from convlora.training.health import Health
from convlora.training.memory import settle_batches
from convlora.training.model_card import model_card
from convlora.training.origin import check_samples, write_samples
from convlora.training.passes import Passes, choose_recorder
from convlora.training.sharding import is_sharded
from convlora.training.steps import reading_interval
from convlora.training.task import class_weights, settle_task
from convlora.training.trainer import SegmentationTrainer
from convlora.training.usable_data import SKIPPED, check_skipped, load_data
from convlora.training.validation import check_settings


class Interrupted(RunError):
    """The run was stopped by the user and can be resumed."""


def train(config: RunConfig, output: Path, *, resume: bool = False, reporter: Reporter | None = None) -> dict[str, Any]:
    """Fine-tunes a SAM and writes a run folder.

    Args:
        config: Settings; what they leave open is filled in and written to `config.yaml`.
        output: The run folder; must not hold a run yet unless it is resumed.
        resume: Go on from the last checkpoint in `output`.
        reporter: Told of the progress.

    Returns:
        The contents of `metrics.json`.

    Raises:
        InputError: If settings or data are at fault.
        Interrupted: If the user stopped it; a checkpoint was saved.
    """
    check_settings(config)
    device = resolve_device(config.training.device)
    precision = resolve_precision(config.training.precision, device)
    use_device(device)
    process = PartialState(cpu=device.type == "cpu")
    if reporter is None or not process.is_main_process:
        reporter = Silent()
    if config.data.path is None:
        raise InputError("No data are named. Give a folder or CSV file: convlora train DATA --output RUN.")
    config.data.path = absolute(config.data.path)
    if find_method(config.method.name).network is None:
        config.model.source = absolute(config.model.source)
    with only_one(output) if process.is_main_process else contextlib.nullcontext():
        return _train(config, output, resume, reporter, process, device, precision)


def _train(
    config: RunConfig,
    output: Path,
    resume: bool,
    reporter: Reporter,
    process: PartialState,
    device: torch.device,
    precision: str,
) -> dict[str, Any]:
    if config.training.budget_seconds is not None and process.num_processes > 1:
        raise InputError("--budget-seconds times the steps of one process, and there are several. Give --max-steps.")
    checkpoint = _prepare_folder(config, output, resume, reporter, process)
    if config.training.precision != "auto":  # that of the run that is resumed
        precision = resolve_precision(config.training.precision, device)
    set_matmul_precision(device, precision)
    data = load_data(config, reporter.message, reporter.track)
    source, classes = data.source, data.classes
    check_effects(config, num_classes=classes.num_classes, has_val=bool(source.splits.get("val")))
    if checkpoint is not None:
        _check_classes(output, classes)
        check_skipped(output, data)
    split_seed = config.training.seed if config.data.split_seed is None else config.data.split_seed
    train_samples, val_samples = source.train_val(split_seed, config.data.val_fraction)
    if config.data.train_fraction < 1:
        whole = len(train_samples)
        train_samples = some_of(train_samples, config.data.train_fraction, config.training.seed)
        reporter.message(f"Training on {len(train_samples)} of {whole} images.")
    if data.skipped:
        are = "files are" if len(data.skipped) > 1 else "file is"
        reporter.message(f"{len(data.skipped)} {are} left out; {output / SKIPPED} says which and why.")
    for note in source.notes:
        reporter.message(note)

    settle_choices(config)
    augmentation = str(config.data.augmentation)
    settle_epochs(config, len(train_samples), reporter.message)
    settle_task(config, classes, [*train_samples, *val_samples], reporter.message, data.values)
    splits = {"train": train_samples, "val": val_samples}
    if checkpoint is not None:
        check_samples(output, splits, reporter.message)
    set_seed(config.training.seed)
    base = load_base(config, classes)
    check_room(base.config, device)
    if config.training.precision == "auto":
        precision = resolve_precision("auto", device, encoder_width(base.config))
    settle_rates(config, base)
    sam = sample_weights(base.vision_encoder)
    if checkpoint is not None:
        check_sam(output, sam, str(config.model.source))
    model = adapt(base, config)
    if config.training.class_weights:
        model.base_model.model.class_weights = class_weights(train_samples, classes, data.values).to(device)
    model.base_model.model.logits_in_training = False  # they are as large as all masks, and nobody reads them
    model.base_model.model.set_loss_settings = SetLossSettings.weighted(*config.training.set_loss_weights)
    config.model.image_size = _plain_size(model.base_model.model.config.image_size)
    config.training.precision = cast("Precision", precision)
    image_size = as_size(config.model.image_size)
    if checkpoint is None and process.is_main_process:
        cell = CELL[config.model.detail] if find_method(config.method.name).network is None else 1
        sentence, _ = describe_size(train_samples, classes, image_size, cell)
        if sentence is not None:
            reporter.message(sentence)
    halve_frozen_weights(model.base_model.model.vision_encoder, precision)
    settle_batches(config.training, model, image_size, device, precision, reporter.message)
    if config.training.cache:
        start_cache(
            model.base_model.model,
            output,
            augmentation=augmentation,
            train_images=len(train_samples),
            val_images=len(val_samples),
            tell=reporter.message,
            clear=process.is_main_process,
        )
    dataset = SegmentationDataset(
        train_samples,
        classes,
        image_size,
        augmentation=augmentation,
        seed=config.training.seed,
        intensity=config.data.intensity,
    )
    parts: dict[str, Any] = {
        "model": model,
        "train_dataset": dataset,
        "val_samples": val_samples,
        "classes": classes,
        "precision": precision,
        "compile": "none" if config.training.cache else config.training.compile,  # files cannot be recorded
    }
    if config.training.budget_seconds is not None and config.training.max_steps is None:
        with _stopping_at_bad_files(output):
            config.training.max_steps = steps_within(
                config.training.budget_seconds,
                trainer_arguments(config, output, device, len(dataset)),
                passes=Passes(_recorder(config, device, process, Silent()), Silent().message),
                tell=reporter.message,
                **parts,
            )
        gc.collect()  # the trainer that timed, and on a GPU what it recorded
        free_cached_memory()
    if config.training.warmup_steps is None:
        config.training.warmup_steps = default_warm_up(planned_steps(config, len(dataset), process.num_processes))
    timer, interruption = StepTimer(), Interruption(reporter, reading_interval(device))
    every = epochs_between_validations(config, len(dataset), process.num_processes)
    if every > 1:
        reporter.message(f"Validation after every {every} epochs, which are short.")

    def save_adapter(scores: dict[str, float], weights: dict[str, torch.Tensor] | None) -> None:
        _save_adapter(model, new_adapter(output, trainer.state.global_step), config, classes, weights)

    trainer = SegmentationTrainer(
        **parts,
        args=trainer_arguments(config, output, device, len(dataset), process.num_processes),
        reporter=reporter,
        health=Health(reporter, classes, config.training.max_grad_norm),
        ema=config.training.ema,
        patience=config.training.patience,
        rates=config.training.rates(),
        passes=Passes(_recorder(config, device, process, reporter), reporter.message),
        on_new_best=save_adapter,
        on_checkpoint=partial(keep_new_adapter, output),
        callbacks=[
            timer,
            LogFile(output / "log.jsonl"),
            ProgressReport(reporter),
            FewerValidations(every),
            interruption,  # after those that it may have to overrule
        ],
    )
    trainer.remove_callback(PrinterCallback)
    if checkpoint is not None:
        trainer.check_processes(checkpoint)  # before anything is written
    if process.is_main_process:
        make_folder(output)
        if data.skipped is not None:
            write_json(output / SKIPPED, data.skipped)
        config.save(output / "config.yaml")
        write_json(output / "classes.json", classes.to_dict())
        method = find_method(config.method.name)
        if method.trains_encoder or method.network is not None:  # all weights are those of the run
            (output / SAM).unlink(missing_ok=True)  # of a false start with another method
        else:
            write_json(output / SAM, sam)
        write_samples(output, splits)
    process.wait_for_everyone()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if checkpoint is not None and trainer.is_complete(checkpoint):
        trainer.restore_state(checkpoint)
    else:
        if process.process_index:  # or the gates of all processes would be given the same noise
            torch.manual_seed(config.training.seed + process.process_index)
        with interruption.listening(), _stopping_at_bad_files(output):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if interruption.stopped or interruption.asked_too_late(trainer.args):
        raise Interrupted(
            f"Interrupted after step {trainer.state.global_step}; a checkpoint was saved. Go on with the same command "
            "and --resume."
        )
    with _stopping_at_bad_files(output):
        return _finish(trainer, config, output, source, classes, timer, reporter)


def _recorder(config: RunConfig, device: torch.device, process: PartialState, reporter: Reporter) -> Recorder | None:
    return choose_recorder(
        config.training.compile,
        device,
        processes=process.num_processes,
        checkpointing=config.training.activation_checkpointing,
        cache=config.training.cache,
        tell=reporter.message,
    )


@contextlib.contextmanager
def _stopping_at_bad_files(output: Path) -> Iterator[None]:
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


def some_of(samples: Sequence[Sample], fraction: float, seed: int) -> list[Sample]:
    """A share of the samples, at least one, in their order; with the same seed a smaller share is part of a larger."""
    order = np.random.default_rng([seed, 1]).permutation(len(samples))
    chosen = set(order[: max(1, round(fraction * len(samples)))].tolist())
    return [sample for index, sample in enumerate(samples) if index in chosen]


def build_model(config: RunConfig, classes: ClassTable) -> PeftModel:
    """The segmenter with fresh adapters, in float32 on the CPU."""
    return adapt(load_base(config, classes), config)


def load_base(config: RunConfig, classes: ClassTable) -> SegmentationModel:
    """The segmenter as it is before anything is trained, in float32 on the CPU."""
    try:
        return load_model(
            config.method.name,
            config.method.options,
            config.model.source,
            num_classes=classes.num_classes,
            id2label=dict(enumerate(classes.names)),
            image_size=config.model.image_size,
            **({} if config.training.loss is None else {"loss": config.training.loss}),  # None: that of the head
            ignore_index=classes.ignore_index,
            attention=config.model.attention,
            head=config.model.head,
            num_mask_tokens=config.model.num_mask_tokens,
            detail=AUTO if config.model.detail == "auto" else config.model.detail,
        )
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The model '{config.model.source}' cannot be used as asked: {error}") from error


def adapt(base: SegmentationModel, config: RunConfig) -> PeftModel:
    """Puts fresh adapters into a segmenter."""
    if isinstance(base, SamForSemanticSegmentation) and find_method(config.method.name).from_scratch:
        randomize(base.vision_encoder)  # right after the seed was set
        randomize(base.mask_decoder)
        base.renew_detail()
    blocks = 0 if base.vision_encoder is None else len(base.vision_encoder.layers)
    last = config.training.adapt_last
    if last is not None and last > blocks:
        raise InputError(f"--adapt-last {last} is more than the {blocks} blocks of the vision encoder. Lower it.")
    return apply_method(
        base,
        config.method.name,
        config.method.options,
        targets=sam_layers,
        modules_to_save=MODULES_TO_SAVE,
        blocks=None if last is None else range(blocks - last, blocks),
    )


def _prepare_folder(
    config: RunConfig, output: Path, resume: bool, reporter: Reporter, process: PartialState
) -> Path | None:
    """Checks the run folder and finds the checkpoint to go on from; None for a new run."""
    if process.is_main_process:
        note = check_folder(output, resume)
        if note is not None:
            reporter.message(note)
    process.wait_for_everyone()
    # The main process holds the lock, so who does not see it looks at another disk; its part of a checkpoint would be
    # missing, and without a checkpoint it would start from the beginning.
    if not all(gather_object([(output / LOCK).exists()])):
        raise InputError(
            f"Not every process sees the folder {output}. Give an --output on a disk that all machines share."
        )
    checkpoint = last_checkpoint(output) if resume else None
    if checkpoint is not None:
        for change in check_resumed(config, output):
            reporter.message(f"Resuming with {change}.")
    return checkpoint


def _check_classes(output: Path, classes: ClassTable) -> None:
    """Refuses to go on with a run whose classes have become others."""
    if not (output / "classes.json").is_file():
        return
    before = read_classes(output)
    if (before.names, before.ignore_index) != (classes.names, classes.ignore_index):
        raise InputError(
            f"The run {output} learned the classes {', '.join(before.names)}, but those of the data are now "
            f"{', '.join(classes.names)}. Restore the data, or start a new run with another --output."
        )


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
        (folder / "README.md").write_text(model_card(config, list(classes.names), None), encoding="utf-8")


def _finish(
    trainer: SegmentationTrainer,
    config: RunConfig,
    output: Path,
    source: DataSource,
    classes: ClassTable,
    timer: StepTimer,
    reporter: Reporter,
) -> dict[str, Any]:
    """Scores the best weights on validation and test images and writes `metrics.json`."""
    model: PeftModel = trainer.accelerator.unwrap_model(trainer.model)
    model.base_model.model.frozen_block_cache = None
    trainer.accelerator.wait_for_everyone()  # nobody reads it any more
    if trainer.is_world_process_zero():
        end_cache(output)
    if is_sharded(model):  # whole again, each process for itself
        model = build_model(config, classes)
        halve_frozen_weights(model.base_model.model.vision_encoder, trainer.precision)
        model.to(trainer.args.device)
    _load_best(model, adapter_folder(output) / WEIGHTS)
    best = max(
        trainer.history if trainer.val_samples else trainer.history[-1:],
        key=lambda entry: (
            entry.get(trainer.args.metric_for_best_model, 0) * (1 if trainer.args.greater_is_better else -1)
        ),
        default=None,
    )
    trainable, total = count_parameters(model)
    earlier = _earlier_metrics(output)
    metrics: dict[str, Any] = {
        "best_epoch": best["epoch"] if best else None,
        "epochs": round(trainer.state.epoch or 0.0, 4),
        "steps": trainer.state.global_step,
    }
    splits = {"val": trainer.val_samples} if trainer.val_samples else {}
    if source.splits.get("test"):
        splits["test"] = source.splits["test"]
    for split, samples in splits.items():
        reporter.validate_begin(len(samples), split)
        trivial = new_baselines(classes)
        images: list[dict[str, Any]] = []
        scores = trainer.score(samples, structure=True, trivial=trivial, images=images, model=model)
        metrics[split] = {**scores.compute(), "trivial": trivial.compute()}
        if trainer.is_world_process_zero():
            write_text(output / "images.jsonl", "".join(json.dumps({"split": split, **one}) + "\n" for one in images))
        if isinstance(scores, MultiClassScores) and trainer.is_world_process_zero():
            write_confusion(output, classes.names, scores.confusion)  # of the test images where there are any
        reporter.validate_end(None, metrics[split], trainer.args.metric_for_best_model, False)
    metrics |= {
        "params": {"trainable": trainable, "total": total},
        "seconds_per_step": timer.median if timer.seconds else earlier.get("seconds_per_step"),
        "peak_memory_mb": peak_memory_mb(trainer.args.device),
        "device": _device_name(trainer.args.device),
        "precision": trainer.precision,
        "versions": {name: version(name) for name in ("convlora", "torch", "transformers", "peft")},
        "history": trainer.history,
        "stopped_early": trainer.why_stopped_early(),
        "skipped_steps": trainer.account.skipped_steps,
    }
    if trainer.is_world_process_zero():
        write_json(output / "metrics.json", metrics)
        card = model_card(config, list(classes.names), metrics)
        write_text(output / "adapter" / "README.md", card)
    return metrics


def _load_best(model: PeftModel, weights: Path) -> None:
    try:
        load_weights(model, weights)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{weights} is damaged ({first_line(error)}). Restore it from a copy.") from error


def _earlier_metrics(output: Path) -> dict[str, Any]:
    """Results of a finished run that was resumed without making a step; damaged ones are about to be replaced."""
    try:
        return read_metrics(output) or {}
    except InputError:
        return {}


def peak_memory_mb(device: torch.device) -> float:
    """Most memory used so far in MB: allocated on a GPU, resident of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_resident_bytes() / 2**20


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _plain_size(size: Any) -> int | list[int]:
    height, width = as_size(size)
    return height if height == width else [height, width]
