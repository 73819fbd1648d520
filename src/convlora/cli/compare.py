"""`convlora compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import err, loading_libraries, out, print_json
from convlora.cli.options import Json
from convlora.cli.training_options import (
    AdaptLast,
    AugmentationName,
    BatchSize,
    BudgetSeconds,
    Config,
    Data,
    DetailName,
    Epochs,
    GradAccum,
    ImageSize,
    LearningRate,
    Loss,
    MaxSteps,
    Memory,
    Model,
    OnBadImage,
    Set,
    TrainingDevice,
    TrainingPrecision,
    check_length,
    training_settings,
)
from convlora.errors import InputError


def compare(
    data: Data = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)] = ...,  # type: ignore[assignment]
    methods: Annotated[
        str,
        typer.Option(
            help="Methods with commas between them. Options follow after colons: conv-lora:top_k=2. 'all' for all."
        ),
    ] = "unet,decoder,lora,conv-lora",
    seeds: Annotated[int, typer.Option(help="Runs of each method, with the seeds 0, 1, ...")] = 3,
    train_fraction: Annotated[
        str, typer.Option(metavar="LIST", help="Shares of the training images to train on, such as 0.05,0.25,1.")
    ] = "1",
    lr_search: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Learning rates to try for each method, such as 3e-4,1e-3; the best on the validation images counts.",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    config: Config = None,
    set_: Set = None,
    image_size: ImageSize = None,
    detail: DetailName = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    budget_seconds: BudgetSeconds = None,
    batch_size: BatchSize = None,
    grad_accum: GradAccum = None,
    lr: LearningRate = None,
    adapt_last: AdaptLast = None,
    memory: Memory = None,
    loss: Loss = None,
    augmentation: AugmentationName = None,
    on_bad_image: OnBadImage = None,
    precision: TrainingPrecision = None,
    device: TrainingDevice = None,
    json: Json = False,
) -> None:
    """Train several methods on the same data and compare them.

    The same images in the same order, the same steps and the same rule for the best epoch for all; with
    --budget-seconds the same time in the place of the same steps. The unet says whether SAM is worth it. What is
    finished is never trained again: give the same command to go on. To add methods or seeds, name them together with
    the earlier ones. Results are compare.html, compare.json and compare.csv.
    """
    from convlora.cli.tables import comparison_table
    from convlora.comparison.plan import make_plan
    from convlora.methods.registry import METHODS

    with loading_libraries():
        from convlora.comparison.page import write_page
        from convlora.comparison.run import run_plan
        from convlora.comparison.summary import sum_up
        from convlora.models.bundled import absolute
        from convlora.training.config import RunConfig

    settings = RunConfig() if config is None else RunConfig.load(config)
    given = training_settings(
        data=data,
        model=model,
        image_size=image_size,
        detail=detail,
        epochs=epochs,
        max_steps=max_steps,
        budget_seconds=budget_seconds,
        batch_size=batch_size,
        grad_accum=grad_accum,
        lr=lr,
        adapt_last=adapt_last,
        memory=memory,
        loss=loss,
        augmentation=augmentation,
        on_bad_image=on_bad_image,
        precision=precision,
        device=device,
    )
    for section, entries in given.items():
        settings.update({section: entries}, origin="the command line")
    settings.override(set_ or [])
    check_length(settings.training.budget_seconds, max_steps)
    if settings.data.path is None:
        raise InputError("No data are named. Give a data set: convlora compare DATA --output DIR.")
    settings.data.path, settings.model.source = absolute(settings.data.path), absolute(settings.model.source)
    names = list(METHODS) if methods.strip() == "all" else _split(methods)
    fractions, rates = _numbers(train_fraction, "--train-fraction"), _numbers(lr_search or "", "--lr-search")
    plan = make_plan(names, seeds, fractions, rates, settings)

    runs = run_plan(plan, output, say=lambda text: err.print(text, markup=False, soft_wrap=True))
    summary: dict[str, Any] = sum_up(plan, runs, output)
    page = write_page(summary, runs, output)
    if json:
        print_json({"output": str(output), **summary})
        return
    for fraction in plan.fractions:
        out.print(comparison_table(summary, fraction))
    out.print(f"Look at {page}", markup=False, soft_wrap=True)


def _split(text: str) -> list[str]:
    """Parts between commas, but not those inside brackets: `a:x=[1,2],b`."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"{option} must be numbers with commas between them, got '{text}'.") from error
