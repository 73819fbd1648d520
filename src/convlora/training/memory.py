"""Choosing batch size and checkpointing so that a step fits into memory, by trying."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from accelerate.utils import gather_object
from peft import PeftModel

from convlora.errors import InputError, RunError, is_out_of_memory
from convlora.methods.conv_lora import load_balancing_loss
from convlora.models.autocast import autocast
from convlora.models.configuration import input_channels
from convlora.settings import TrainingSettings

IMAGES_PER_STEP = 4  # unless something else is asked for; the published number

# Share of the free memory that a step may use. On a GPU the rest is for fragments; on a CPU other programs want some.
_USABLE = {"cuda": 0.9, "cpu": 0.8}

_OPTIMIZER_BYTES = 12  # per trained parameter: the gradient and AdamW's two moments in single precision
_AVERAGE_BYTES = 8  # the average, and the difference to it while it is updated


@dataclass(frozen=True)
class Plan:
    """How the images of an optimizer step are processed."""

    batch_size: int
    grad_accum: int
    activation_checkpointing: bool

    def __str__(self) -> str:
        with_or_without = "with" if self.activation_checkpointing else "without"
        return f"batch size {self.batch_size}, {self.grad_accum} batches per step, {with_or_without} checkpointing"


def batches_of(settings: TrainingSettings) -> tuple[int, int]:
    """Batch size and batches per step; what is left open makes a step of `IMAGES_PER_STEP` images, as far as it can.

    Whatever the device, the same command then means the same number of images per step.
    """
    batch_size, grad_accum = settings.batch_size, settings.grad_accum
    if batch_size is None:
        batch_size = 1 if grad_accum is None else max(1, IMAGES_PER_STEP // grad_accum)
    return batch_size, max(1, IMAGES_PER_STEP // batch_size) if grad_accum is None else grad_accum


def settle_batches(
    settings: TrainingSettings,
    model: PeftModel,
    image_size: tuple[int, int],
    device: torch.device,
    precision: str,
    tell: Callable[[str], None],
) -> None:
    """Fills in what is left open of how the images of a step are processed, the same in all processes.

    On a CUDA GPU, where nothing else is asked for, all images of a step go at once if they fit.

    Args:
        settings: Changed in place.
        model: See [`plan_memory`], as for what follows.
        image_size: (height, width) in pixels.
        device: Where to train.
        precision: `"fp32"`, `"bf16"` or `"fp16"`.
        tell: Receives sentences about the choice.

    Raises:
        InputError: If memory cannot be measured on the device.
        RunError: If not even one image with checkpointing fits.
    """
    is_open = settings.batch_size is None and settings.grad_accum is None
    settings.batch_size, settings.grad_accum = batches_of(settings)
    if settings.memory != "auto" and not (is_open and device.type == "cuda" and not uses_fsdp()):
        return
    if device.type not in _USABLE:
        raise InputError(
            f"--memory auto cannot measure what a step takes on the device '{device}'. Leave it out, and give "
            "--batch-size and --grad-accum."
        )
    images = settings.batch_size * settings.grad_accum
    checkpointing = settings.memory != "auto" and settings.activation_checkpointing
    more = {"checkpointing": checkpointing, "averaged": bool(settings.ema)}
    plan = plan_memory(model, image_size, images, device, precision, tell, **more)
    plan = max(gather_object([plan]), key=candidates(images).index)  # what fits everywhere
    tell(f"Memory: {plan}.")
    settings.batch_size, settings.grad_accum = plan.batch_size, plan.grad_accum
    settings.activation_checkpointing, settings.memory = plan.activation_checkpointing, "given"


def uses_fsdp() -> bool:
    """Whether accelerate was told to spread the weights over the processes."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")


def candidates(images_per_step: int) -> list[Plan]:
    """All plans for a number of images per optimizer step, the fastest first: large batches, checkpointing last."""
    sizes = [size for size in range(images_per_step, 0, -1) if images_per_step % size == 0]
    return [Plan(size, images_per_step // size, checkpointing) for checkpointing in (False, True) for size in sizes]


def choose(images_per_step: int, budget: float, one_plain: float | None, one_checkpointed: float | None) -> Plan | None:
    """The fastest plan that fits.

    Args:
        images_per_step: Images per optimizer step.
        budget: Memory that may be used, in bytes.
        one_plain: What a step with one image takes without checkpointing; None if it does not fit.
        one_checkpointed: The same with checkpointing; None if the model has none.

    Returns:
        The plan; None if none fits. What a step takes grows linearly with its images.
    """
    for plan in candidates(images_per_step):
        each = one_checkpointed if plan.activation_checkpointing else one_plain
        if each is not None and each * plan.batch_size <= budget:
            return plan
    return None


def plan_memory(
    model: PeftModel,
    image_size: tuple[int, int],
    images_per_step: int,
    device: torch.device,
    precision: str,
    tell: Callable[[str], None],
    *,
    checkpointing: bool = False,
    averaged: bool = False,
) -> Plan:
    """Makes trial steps with one image and picks the fastest plan that fits.

    Args:
        model: The model to be trained; moved to the device, otherwise left as it was.
        image_size: (height, width) in pixels.
        images_per_step: Images per optimizer step, to be kept.
        device: Where to train.
        precision: `"fp32"`, `"bf16"` or `"fp16"`.
        tell: Receives a sentence about the choice.
        checkpointing: Whether checkpointing was asked for, so that nothing is tried without.
        averaged: Whether an average of the trained weights is kept.

    Raises:
        RunError: If not even one image with checkpointing fits.
    """
    tell("Trying out how much memory a step takes.")
    model.to(device)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    per_weight = _OPTIMIZER_BYTES + (_AVERAGE_BYTES if averaged else 0)
    budget = _free_bytes(device) * _USABLE[device.type] - trained * per_weight
    plain = None
    if device.type == "cuda" and not checkpointing:  # mostly it fits as it is, and there is nothing else to try
        plain = _trial(model, image_size, device, precision, checkpointing=False)
        if plain is not None and plain * images_per_step <= budget:
            return _told(Plan(images_per_step, 1, False), plain, budget, tell)
    can_checkpoint = model.base_model.model.supports_gradient_checkpointing
    checkpointed = _trial(model, image_size, device, precision, checkpointing=True) if can_checkpoint else None
    # Without checkpointing a step takes a few times as much. A CPU has no error to catch, so it is not tried in vain.
    fits = not can_checkpoint or (checkpointed is not None and checkpointed * 6 <= budget)
    if device.type == "cpu" and not checkpointing and fits:
        plain = _trial(model, image_size, device, precision, checkpointing=False)
    if plain is not None and checkpointed is not None:
        plain = max(plain, checkpointed)
    plan = choose(images_per_step, budget, plain, checkpointed)
    if plan is None:
        least = checkpointed if can_checkpoint else plain
        need = "more than there is" if least is None else f"{least / 2**30:.1f} GB"
        how = " with checkpointing" if can_checkpoint else ""
        advice = ", or adapt fewer blocks with --adapt-last" if can_checkpoint else ""
        raise RunError(
            f"One image of {image_size[0]} x {image_size[1]} pixels needs {need}{how}, and "
            f"{max(budget, 0) / 2**30:.1f} GB can be used. Lower --image-size{advice}."
        )
    each = checkpointed if plan.activation_checkpointing else plain
    return _told(plan, each or 0.0, budget, tell)


def _told(plan: Plan, each: float, budget: float, tell: Callable[[str], None]) -> Plan:
    tell(f"A step will take about {each * plan.batch_size / 2**30:.1f} GB; {budget / 2**30:.1f} GB can be used.")
    return plan


def _trial(
    model: PeftModel, image_size: tuple[int, int], device: torch.device, precision: str, checkpointing: bool
) -> float | None:
    """Bytes that forward and backward pass of one random image take beyond the model; None if they do not fit."""
    base = model.base_model.model
    was_training, before = model.training, base.is_activation_checkpointing
    model.train()
    if checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    else:
        base.activation_checkpointing_disable()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _peak_growth(device) as peak:
            pixels = torch.randn(1, input_channels(base.config), *image_size, device=device)
            labels = torch.randint(0, 2, (1, *image_size), device=device)
            with autocast(device, precision):
                loss = model(pixel_values=pixels, labels=labels).loss + load_balancing_loss(model)
            loss.backward()
        return peak[0]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)
        if before:
            base.activation_checkpointing_enable({"use_reentrant": False})
        else:
            base.activation_checkpointing_disable()
        _give_back_memory(device)


def _give_back_memory(device: torch.device) -> None:
    """Returns freed memory to the system, or the next trial would find it there and seem to take none."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # the C library of Linux has it, others do not
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _peak_growth(device: torch.device) -> Iterator[list[float]]:
    """Measures by how many bytes memory grows at most; the result is there after the block."""
    result = [0.0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield result
        torch.cuda.synchronize(device)
        result[0] = float(torch.cuda.max_memory_allocated(device) - before)
        return
    process, done = psutil.Process(), threading.Event()
    start = process.memory_info().rss

    def watch() -> None:
        while not done.is_set():
            result[0] = max(result[0], float(process.memory_info().rss - start))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield result
    finally:
        done.set()
        watcher.join()


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free)
    return float(psutil.virtual_memory().available)
