"""Options of a training run, for every command that trains."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.options import MemoryMode, PrecisionName, parse_image_size
from convlora.errors import InputError


class BadImages(StrEnum):
    """What is done about images and masks that cannot be used."""

    STOP = "stop"
    SKIP = "skip"


Data = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="Folder {train,val,test}/{images,masks}/, or with train.csv, val.csv, test.csv (columns image,label), or "
        "COCO annotations, or a Hugging Face data set.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="SAM: a Hugging Face id, a folder saved by transformers, Meta's .pth file, or tiny, which comes with "
        "the package. [dim]\\[default: facebook/sam-vit-base][/dim]",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="YAML file of settings, such as the config.yaml of a run, or recipe:NAME (see 'convlora recipes').",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting of config.yaml; may be repeated.", show_default=False),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Resize images to N x N pixels (or HxW), divisible by 16. [dim]\\[default: the checkpoint's][/dim]",
        show_default=False,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        help="Passes over the training images. [dim]\\[default: 10 or more, the fewer images the more][/dim]",
        show_default=False,
    ),
]
MaxSteps = Annotated[int | None, typer.Option(help="Stop after so many optimizer steps.", show_default=False)]
BudgetSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="Train for about N seconds in the place of epochs: some steps are timed first, and as many made as fit. "
        "Validation is not counted.",
        show_default=False,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Images at a time. [dim]\\[default: 4 images per step: at once on a GPU if they fit, one by one on a "
        "CPU][/dim]",
        show_default=False,
    ),
]
GradAccum = Annotated[
    int | None,
    typer.Option(
        help="Batches per optimizer step. [dim]\\[default: as many as make a step of 4 images][/dim]",
        show_default=False,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help="Learning rate at the start. [dim]\\[default: 1e-4; 1e-3 with tiny, of unet, and of the detail "
        "branch][/dim]",
        show_default=False,
    ),
]
AdaptLast = Annotated[
    int | None,
    typer.Option(
        help="Adapt only the last so many blocks: less memory and time. [dim]\\[default: all][/dim]",
        show_default=False,
    ),
]
Cache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache",
        help="With --adapt-last: keep what the frozen blocks make of each image on disk, so that later epochs "
        "skip them.",
        show_default=False,
    ),
]
Memory = Annotated[
    MemoryMode | None,
    typer.Option(
        help="Auto: try out what a step takes and pick batch size and checkpointing to fit. "
        "[dim]\\[default: given][/dim]",
        show_default=False,
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        help="Of binary tasks: bce-dice, structure (as published) or balanced-bce (for shadows). "
        "[dim]\\[default: bce-dice][/dim]",
        show_default=False,
    ),
]
OnBadImage = Annotated[
    BadImages | None,
    typer.Option(
        help="What files that cannot be used do: stop the run before it begins, or be left out and listed in "
        "skipped.json (all files are read first). [dim]\\[default: stop][/dim]",
        show_default=False,
    ),
]
AugmentationName = Annotated[
    str | None,
    typer.Option(
        help="none, flip (left-right, as published), flips (up-down, too) or strong. [dim]\\[default: flips][/dim]",
        show_default=False,
    ),
]
DetailName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A convolutional branch beside SAM for what is thinner than its patches: half draws at half of the "
        "image's size, full at all of it, none is SAM alone, as published. [dim]\\[default: auto, which is half][/dim]",
        show_default=False,
    ),
]
TrainingPrecision = Annotated[
    PrecisionName | None,
    typer.Option(
        help="Auto: bf16 or fp16 on a GPU; on a CPU bf16 if it has it and the SAM is large, else fp32. "
        "[dim]\\[default: auto][/dim]",
        show_default=False,
    ),
]
TrainingDevice = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps; auto: a GPU if there is one. [dim]\\[default: auto][/dim]",
        show_default=False,
    ),
]


def training_settings(
    *,
    data: str | None,
    model: str | None,
    image_size: str | None,
    epochs: int | None,
    max_steps: int | None,
    budget_seconds: float | None,
    batch_size: int | None,
    grad_accum: int | None,
    lr: float | None,
    adapt_last: int | None,
    memory: MemoryMode | None,
    loss: str | None,
    augmentation: str | None,
    precision: PrecisionName | None,
    device: str | None,
    method: str | None = None,
    detail: str | None = None,
    cache: bool | None = None,
    on_bad_image: BadImages | None = None,
    seed: int | None = None,
) -> dict[str, dict[str, Any]]:
    """What was given on the command line, by section and name."""
    given: dict[str, dict[str, Any]] = {
        "data": {
            "path": data,
            "augmentation": augmentation,
            "on_bad_image": None if on_bad_image is None else on_bad_image.value,
        },
        "model": {
            "source": model,
            "image_size": None if image_size is None else parse_image_size(image_size),
            "detail": detail,
        },
        "method": {"name": method},
        "training": {
            "epochs": epochs,
            "max_steps": max_steps,
            "budget_seconds": budget_seconds,
            "batch_size": batch_size,
            "grad_accum": grad_accum,
            "lr": lr,
            "adapt_last": adapt_last,
            "cache": cache,
            "memory": None if memory is None else memory.value,
            "loss": loss,
            "seed": seed,
            "precision": None if precision is None else precision.value,
            "device": device,
        },
    }
    return {section: {k: v for k, v in entries.items() if v is not None} for section, entries in given.items()}


def check_length(budget_seconds: float | None, max_steps: int | None) -> None:
    """Refuses a number of steps beside the seconds that a run may take, which decide on it.

    A file may hold both: those of a run that was timed.

    Args:
        budget_seconds: Of the settings, wherever they come from.
        max_steps: As given on the command line.

    Raises:
        InputError: If both were given.
    """
    if budget_seconds is not None and max_steps is not None:
        raise InputError(
            f"--budget-seconds (here {budget_seconds:g}) and --max-steps both say how long to train. Leave one out."
        )
