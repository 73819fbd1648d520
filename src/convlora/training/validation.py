"""Checks of a run's settings that no type can express, all reported in one message."""

from __future__ import annotations

import math

from transformers.integrations import get_available_reporting_integrations

from convlora.data.augmentation import AUGMENTATIONS
from convlora.errors import InputError
from convlora.losses import LOSSES
from convlora.methods.registry import check_method, find_method, resolve_options
from convlora.metrics import HIGHER_IS_BETTER
from convlora.training.config import ModelSettings, RunConfig, TrainingSettings
from convlora.training.effects import check_effects

_MOST_WORKERS = 256  # each is a process, and no machine has that many cores to spare


def check_settings(config: RunConfig) -> None:
    """Checks ranges and names, and completes the method's options. What is left open is settled later.

    Raises:
        InputError: With every problem found.
    """
    check_effects(config)
    network = find_method(config.method.name).network
    if network is not None:  # it takes the place of the SAM
        config.model.source, config.model.detail = network, "none"
    t, d = config.training, config.data
    problems = []
    for name, value, least in (
        ("epochs", t.epochs, 1),
        ("max-steps", t.max_steps, 1),
        ("batch-size", t.batch_size, 1),
        ("grad-accum", t.grad_accum, 1),
        ("adapt-last", t.adapt_last, 1),
        ("seed", t.seed, 0),
    ):
        if value is not None and value < least:
            problems.append(f"--{name} must be at least {least}, got {value}")
    if t.seed >= 2**32:
        problems.append(f"--seed must be below 4294967296, got {t.seed}")
    size = config.model.image_size
    if isinstance(size, list) and len(size) != 2:
        problems.append(f"model.image_size must be one side or [height, width], got {size}")
    known = get_available_reporting_integrations()
    problems += [
        f"training.report_to: the logger '{name}' is not known or not installed; there is {', '.join(known) or 'none'}"
        for name in t.report_to
        if name not in known
    ]
    for name in ("lr", "weight_decay", "max_grad_norm"):
        if getattr(t, name) is not None and not math.isfinite(getattr(t, name)):
            problems.append(f"training.{name} must be a finite number, got {getattr(t, name)}")
    if t.budget_seconds is not None and not 0 < t.budget_seconds < math.inf:
        problems.append(f"--budget-seconds must be above 0, got {t.budget_seconds}")
    if t.lr is not None and not t.lr > 0:
        problems.append(f"--lr must be above 0, got {t.lr}")
    if t.patience is not None and t.patience < 1:
        problems.append(f"training.patience must be at least 1, got {t.patience}")
    if t.warmup_steps is not None and t.warmup_steps < 0:
        problems.append(f"training.warmup_steps must not be negative, got {t.warmup_steps}")
    for name, rate in t.rates().items():
        if not 0 < rate < math.inf:
            problems.append(f"training.{name} must be a finite number above 0, got {rate}")
    if t.ema is not None and not 0 <= t.ema < 1:
        problems.append(f"training.ema must be at least 0 and below 1, got {t.ema}")
    if t.logging_steps < 1:
        problems.append(f"training.logging_steps must be at least 1, got {t.logging_steps}")
    if t.weight_decay < 0 or t.max_grad_norm < 0:
        problems.append("training.weight_decay and training.max_grad_norm must not be negative")
    if len(t.set_loss_weights) != 3 or not all(0 <= one < math.inf for one in t.set_loss_weights):
        problems.append(f"training.set_loss_weights must be three numbers from 0, got {t.set_loss_weights}")
    if t.loss is not None and t.loss not in LOSSES:
        problems.append(f"training.loss must be one of {', '.join(LOSSES)}, got '{t.loss}'")
    if t.select_by is not None and t.select_by not in HIGHER_IS_BETTER:
        problems.append(f"training.select_by must be one of {', '.join(HIGHER_IS_BETTER)}, got '{t.select_by}'")
    if d.augmentation is not None and d.augmentation not in AUGMENTATIONS:
        problems.append(f"data.augmentation must be one of {', '.join(AUGMENTATIONS)}, got '{d.augmentation}'")
    if not 0 <= d.val_fraction < 1:
        problems.append(f"data.val_fraction must be at least 0 and below 1, got {d.val_fraction}")
    if not 0 < d.train_fraction <= 1:
        problems.append(f"data.train_fraction must be above 0 and at most 1, got {d.train_fraction}")
    if d.workers is not None and not 0 <= d.workers <= _MOST_WORKERS:
        problems.append(f"data.workers must be from 0 to {_MOST_WORKERS}, got {d.workers}")
    if problems:
        raise InputError("; ".join(problems) + ".")
    config.method.options = resolve_options(config.method.name, config.method.options)
    check_method(config.method.name, config.method.options, chosen_blocks=t.adapt_last is not None)


def leave_out_sam(config: RunConfig) -> None:
    """Takes back what settings made for a SAM say of it, so that a network of another kind can be trained with them."""
    model, training = config.model, config.training
    head = "auto" if model.head == "mask-classification" else model.head
    config.model = ModelSettings(image_size=model.image_size, head=head)
    training.adapt_last, training.cache, training.activation_checkpointing = None, False, False
    training.lr_decoder = training.lr_detail = None
    training.set_loss_weights = TrainingSettings().set_loss_weights
