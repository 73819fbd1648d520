"""The settings of a run as the arguments of transformers' Trainer."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import torch
from accelerate import DistributedType
from transformers import TrainingArguments

from convlora.devices import default_batch, default_workers
from convlora.errors import InputError
from convlora.metrics import HIGHER_IS_BETTER
from convlora.training.config import RunConfig
from convlora.training.defaults import default_warm_up
from convlora.training.memory import batches_of, uses_fsdp

ENDLESS = 10**9  # steps
MOST_VALIDATIONS = 20  # of a run whose length was given in seconds or steps


class DeviceArguments(TrainingArguments):
    """transformers' arguments, for one device per process: the one that was chosen.

    Of one process they name the first GPU, whatever device accelerate was told to use, and count all that are visible.
    The Trainer multiplies the batch by that count and splits it over them, where the load-balancing loss of the copies
    is lost. Several GPUs are for `torchrun` and `accelerate launch`.
    """

    @cached_property
    def _setup_devices(self) -> torch.device:
        device: torch.device = super()._setup_devices
        self._n_gpu: int = min(self._n_gpu, 1)
        state = self.distributed_state
        if state is not None and state.distributed_type == DistributedType.NO and not self.use_cpu:
            device = state.device  # see `convlora.devices.use_device`
            if device.type == "cuda":
                torch.cuda.set_device(device)
        return device


def trainer_arguments(
    config: RunConfig, output: Path, device: torch.device, images: int, processes: int = 1
) -> DeviceArguments:
    """The arguments of a run.

    Args:
        config: Its settings.
        output: The run folder.
        device: Where to train.
        images: Number of training images.
        processes: That train together.

    Raises:
        InputError: If the learning rate would rise for longer than the run takes.
    """
    t, workers = config.training, config.data.workers
    if workers is None:
        workers = default_workers(device, images)
    batch_size, grad_accum = batches_of(t)
    # Weights that are spread over processes take the same batches everywhere, so there is no trying out.
    scored = batch_size if uses_fsdp() else max(batch_size, default_batch(device))
    on_gpu = device.type == "cuda"
    select_by = t.select_by or "iou"  # settled in a run
    steps = planned_steps(config, images, processes)
    if t.warmup_steps is not None and t.warmup_steps >= steps:
        raise InputError(
            f"training.warmup_steps is {t.warmup_steps}, but the run has {steps} steps: nothing would be left to fall "
            "in. Lower it, or train longer."
        )
    return DeviceArguments(
        output_dir=str(output / "checkpoints"),
        use_cpu=device.type == "cpu",
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=scored,
        gradient_accumulation_steps=grad_accum,
        learning_rate=t.lr,
        weight_decay=t.weight_decay,
        max_grad_norm=t.max_grad_norm,
        warmup_steps=default_warm_up(steps) if t.warmup_steps is None else t.warmup_steps,
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"lr_end": 0.0, "power": 1.0},
        optim="adamw_torch_fused",  # can skip a step on the device
        bf16=t.precision == "bf16",
        fp16=t.precision == "fp16",
        activation_checkpointing=t.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model=select_by,
        greater_is_better=HIGHER_IS_BETTER[select_by],
        logging_steps=t.logging_steps,
        logging_nan_inf_filter=False,
        seed=t.seed,
        data_seed=t.seed,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=on_gpu,
        accelerator_config={"non_blocking": on_gpu},  # the copy to the GPU goes on beside what it computes
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=t.report_to or "none",
        disable_tqdm=True,
        log_level="error",
    )


def planned_steps(config: RunConfig, images: int, processes: int) -> int:
    """Optimizer steps of a run: those of all epochs, or `max_steps` if that is fewer or what a budget is worth."""
    t = config.training
    if t.budget_seconds is not None and t.max_steps is not None:
        return t.max_steps
    if t.epochs is None and t.max_steps is None:
        if t.budget_seconds is None:
            raise ValueError("Neither the epochs nor the steps are settled.")
        return ENDLESS  # while some are timed
    if t.epochs is None:
        return t.max_steps or 0
    steps = steps_per_epoch(config, images, processes) * t.epochs
    return steps if t.max_steps is None else min(steps, t.max_steps)


def steps_per_epoch(config: RunConfig, images: int, processes: int) -> int:
    """Optimizer steps of an epoch; the last may have fewer images."""
    batch_size, grad_accum = batches_of(config.training)
    return math.ceil(math.ceil(images / (batch_size * processes)) / grad_accum)


def epochs_between_validations(config: RunConfig, images: int, processes: int) -> int:
    """1; more in a run of given seconds or steps whose epochs are so short that it would validate too often."""
    t = config.training
    if t.budget_seconds is None and (t.epochs is not None or t.max_steps is None):
        return 1
    steps = planned_steps(config, images, processes)
    return max(1, math.ceil(steps / steps_per_epoch(config, images, processes) / MOST_VALIDATIONS))
