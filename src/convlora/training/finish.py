"""The end of a run: its best weights are scored, and its results written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from safetensors import SafetensorError

from convlora.data.sample import Sample
from convlora.devices import device_name, peak_memory_mb
from convlora.errors import InputError
from convlora.inference.scoring import new_baselines
from convlora.inference.segmenter import Segmenter
from convlora.inference.volume_scores import VolumeScores
from convlora.metrics import BinaryScores, MultiClassScores
from convlora.models.configuration import as_size
from convlora.models.parameters import count_parameters, halve_frozen_weights
from convlora.report.run_page import report_after_training
from convlora.runs.adapters import WEIGHTS, load_weights
from convlora.runs.reading import adapter_folder, first_line, read_metrics
from convlora.storage import write_json, write_text
from convlora.training.bands import config_reading
from convlora.training.cache import end_cache
from convlora.training.context import Context
from convlora.training.fit import Fit, stopping_at_bad_files
from convlora.training.images import Images
from convlora.training.model import build_model
from convlora.training.model_card import is_sam, model_card
from convlora.training.origin import read_beginning
from convlora.training.sharding import is_sharded
from convlora.training.trainer import SegmentationTrainer


def finish(run: Context, fit: Fit, images: Images) -> dict[str, Any]:
    """Scores the best weights on validation and test images; writes `metrics.json`, model card and report.

    Returns:
        The contents of `metrics.json`.

    Raises:
        InputError: If a file of the data, or the best weights, cannot be read any more.
    """
    with stopping_at_bad_files(run.output):
        return _finish(run, fit, images)


def _finish(run: Context, fit: Fit, images: Images) -> dict[str, Any]:
    config, output, trainer = run.config, run.output, fit.trainer
    model = _best_model(run, trainer, images)
    best = _best_epoch(trainer)
    trainable, total = count_parameters(model)
    earlier = _earlier_metrics(output)
    metrics: dict[str, Any] = {
        "best_epoch": best["epoch"] if best else None,
        "epochs": round(trainer.state.epoch or 0.0, 4),
        "steps": trainer.state.global_step,
    }
    splits = {name: samples for name, samples in (("val", images.val), ("test", images.test)) if samples}
    confusion: np.ndarray | None = None  # both of the test images where there are any
    samples: list[Sample] = []
    for split, samples in splits.items():
        run.reporter.validate_begin(len(samples), split)
        trivial = new_baselines(images.classes)
        single: list[dict[str, Any]] = []
        volumes = VolumeScores(images.classes)
        scores = trainer.score(samples, structure=True, trivial=trivial, images=single, volumes=volumes, model=model)
        metrics[split] = {**scores.compute(), "trivial": trivial.compute()}
        of_volumes = volumes.compute()
        if of_volumes is not None:
            metrics[split]["volumes"] = of_volumes
        if run.is_main:
            groups = {one.name: images.groups[id(one)] for one in samples if id(one) in images.groups}
            records = ({"split": split, **_group_of(one, groups), **one} for one in single)
            write_text(output / "images.jsonl", "".join(json.dumps(one) + "\n" for one in records))
        confusion = scores.confusion if isinstance(scores, MultiClassScores) else None
        if split == "val" and isinstance(scores, BinaryScores) and scores.thresholds is not None:
            metrics["threshold"] = scores.thresholds.compute()
        run.reporter.validate_end(None, metrics[split], trainer.args.metric_for_best_model, False)
    metrics |= {
        "params": {"trainable": trainable, "total": total},
        "seconds_per_step": fit.timer.median if fit.timer.seconds else earlier.get("seconds_per_step"),
        "peak_memory_mb": peak_memory_mb(run.device),
        "device": device_name(run.device),
        "precision": run.precision,
        "versions": {name: version(name) for name in ("convlora", "torch", "transformers", "peft")},
        "history": trainer.history,
        "stopped_early": trainer.why_stopped_early(),
        "skipped_steps": trainer.account.skipped_steps,
    }
    beginning = read_beginning(output)
    if beginning is not None:
        metrics["from"] = beginning
    if run.is_main:
        write_json(output / "metrics.json", metrics)
        card = model_card(config, list(images.classes.names), metrics, is_sam=is_sam(model))
        write_text(output / "adapter" / "README.md", card)

        def segmenter() -> Segmenter:
            size = as_size(config.model.image_size)
            reading, window = config_reading(config), config.data.window
            return Segmenter(model, images.classes, size, reading, run.precision, compile="none", window=window)

        report_after_training(output, segmenter, {one.name: one for one in samples}, confusion, run.reporter.message)
    return metrics


def _group_of(record: Mapping[str, Any], groups: Mapping[str, str]) -> dict[str, str]:
    """The entry `group` of an image; empty if it has none."""
    return {"group": groups[record["image"]]} if record["image"] in groups else {}


def _best_model(run: Context, trainer: SegmentationTrainer, images: Images) -> PeftModel:
    """The model with the weights of the best epoch, whole in every process."""
    model: PeftModel = trainer.accelerator.unwrap_model(trainer.model)
    model.base_model.model.frozen_block_cache = None
    trainer.accelerator.wait_for_everyone()  # nobody reads it any more
    if run.is_main:
        end_cache(run.output)
    if is_sharded(model):
        model = build_model(run.config, images.classes)
        halve_frozen_weights(model.base_model.model.vision_encoder, run.precision)
        model.to(run.device)
    weights = adapter_folder(run.output) / WEIGHTS
    try:
        load_weights(model, weights)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{weights} is damaged ({first_line(error)}). Restore it from a copy.") from error
    return model


def _best_epoch(trainer: SegmentationTrainer) -> dict[str, Any] | None:
    """The entry of the history with the best score; without validation images the last one."""
    name, sign = trainer.args.metric_for_best_model, 1 if trainer.args.greater_is_better else -1
    entries = trainer.history if trainer.val_samples else trainer.history[-1:]
    return max(entries, key=lambda entry: sign * entry.get(name, 0), default=None)


def _earlier_metrics(output: Path) -> dict[str, Any]:
    """Results of a finished run that was resumed without making a step; damaged ones are about to be replaced."""
    try:
        return read_metrics(output) or {}
    except InputError:
        return {}
