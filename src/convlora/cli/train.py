"""`convlora train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Json
from convlora.cli.training_options import (
    AdaptLast,
    AugmentationName,
    BatchSize,
    BudgetSeconds,
    Cache,
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


def train(
    data: Data = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder to write.", show_default=False)] = ...,  # type: ignore[assignment]
    model: Model = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="conv-lora, lora, dora, late-lora, late-conv-lora, multi-scale-lora, depthwise-lora, bitfit, adapter, "
            "vpt, lst, sam-adapter, ssf, decoder, full or scratch; unet trains a U-Net without SAM. "
            "[dim]\\[default: conv-lora][/dim]",
            show_default=False,
        ),
    ] = None,
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
    cache: Cache = None,
    memory: Memory = None,
    loss: Loss = None,
    augmentation: AugmentationName = None,
    on_bad_image: OnBadImage = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything that is drawn. [dim]\\[default: 0][/dim]", show_default=False)
    ] = None,
    precision: TrainingPrecision = None,
    device: TrainingDevice = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    json: Json = False,
) -> None:
    """Fine-tune a SAM on a folder of images.

    The best epoch on the validation images is kept. A first try on a GPU:

        convlora train DATA --model facebook/sam-vit-base --image-size 512 --output RUN
    """
    # Everything heavy is imported here, so that --help answers at once.
    with loading_libraries():
        from accelerate import PartialState

        from convlora.cli.progress import RunProgress
        from convlora.methods.registry import find_method
        from convlora.training.config import RunConfig
        from convlora.training.run import train as run_training
        from convlora.training.validation import leave_out_sam

    settings = RunConfig()
    if config is not None:
        settings = RunConfig.load(config)
    elif resume and (output / "config.yaml").is_file():
        settings = RunConfig.load(output / "config.yaml")
    if config is not None and method is not None and find_method(method).network is not None:
        leave_out_sam(settings)  # it was not meant for this method; --model beside it would be
    given = training_settings(
        data=data,
        model=model,
        method=method,
        image_size=image_size,
        detail=detail,
        epochs=epochs,
        max_steps=max_steps,
        budget_seconds=budget_seconds,
        batch_size=batch_size,
        grad_accum=grad_accum,
        lr=lr,
        adapt_last=adapt_last,
        cache=cache,
        memory=memory,
        loss=loss,
        augmentation=augmentation,
        on_bad_image=on_bad_image,
        seed=seed,
        precision=precision,
        device=device,
    )
    if resume and given.get("training", {}).get("memory") == "auto":
        # What was chosen the first time, from what was asked for then, is no starting point for choosing again.
        for name in ("batch_size", "grad_accum", "activation_checkpointing"):
            setattr(settings.training, name, getattr(RunConfig().training, name))
    for section, entries in given.items():
        settings.update({section: entries}, origin="the command line")
    settings.override(set_ or [])
    check_length(settings.training.budget_seconds, max_steps)

    with RunProgress() as progress:
        metrics = run_training(settings, output, resume=resume, reporter=progress)
    if not PartialState().is_main_process:
        return
    if json:
        print_json({"run": str(output), **metrics})
    else:
        _show(metrics, output)


def _show(metrics: dict[str, Any], output: Path) -> None:
    from convlora.cli.tables import classes_table, facts_table, scores_table

    params = metrics["params"]
    seconds = metrics["seconds_per_step"]
    splits = {split: metrics[split] for split in ("val", "test") if metrics.get(split)}
    if splits:
        which = "best" if "val" in splits else "last"
        out.print(scores_table(splits, title=f"Scores of the {which} epoch ({metrics['best_epoch']})"))
    else:
        out.print("There are no scores, because all images were trained on.")
    last: dict[str, Any] = next(reversed(splits.values()), {})
    if "per_class" in last:
        out.print(classes_table(last["per_class"]))
    out.print(
        facts_table(
            {
                "parameters trained": f"{params['trainable']:,} of {params['total']:,} "
                f"({100 * params['trainable'] / params['total']:.2f}%)",
                "time per step": "no step was made" if seconds is None else f"{seconds:.3g} s",
                "peak memory": f"{metrics['peak_memory_mb']:,.0f} MB",
                "run folder": output,
            }
        )
    )
    out.print(f"Next: convlora predict {output} IMAGE_OR_FOLDER --output DIR --overlay", markup=False, soft_wrap=True)
