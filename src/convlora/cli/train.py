"""`convlora train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import out, print_json, quiet_libraries
from convlora.cli.options import DeviceName, Json, MemoryMode, PrecisionName, parse_image_size


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="Folder {train,val,test}/{images,masks}/, or with train.csv, val.csv, test.csv (columns image,label).",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder to write.", show_default=False)] = ...,  # type: ignore[assignment]
    model: Annotated[
        str | None,
        typer.Option(
            help="SAM: a Hugging Face id, a folder saved by transformers, Meta's .pth file, or tiny, which comes with "
            "the package. [dim]\\[default: facebook/sam-vit-base][/dim]",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="conv-lora or lora. [dim]\\[default: conv-lora][/dim]", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings, such as the config.yaml of a run.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting of config.yaml; may be repeated.", show_default=False
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Resize images to N x N pixels (or HxW), divisible by 16. [dim]\\[default: the checkpoint's][/dim]",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images. [dim]\\[default: 20][/dim]", show_default=False)
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Stop after so many optimizer steps.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images at a time. [dim]\\[default: 1][/dim]", show_default=False)
    ] = None,
    grad_accum: Annotated[
        int | None, typer.Option(help="Batches per optimizer step. [dim]\\[default: 4][/dim]", show_default=False)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate at the start. [dim]\\[default: 1e-4][/dim]", show_default=False)
    ] = None,
    adapt_last: Annotated[
        int | None,
        typer.Option(
            help="Adapt only the last so many blocks: less memory and time. [dim]\\[default: all][/dim]",
            show_default=False,
        ),
    ] = None,
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache",
            help="With --adapt-last: keep what the frozen blocks make of each image on disk, so that later epochs "
            "skip them.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        MemoryMode | None,
        typer.Option(
            help="Auto: try out what a step takes and pick batch size and checkpointing to fit. "
            "[dim]\\[default: given][/dim]",
            show_default=False,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="structure, balanced-bce (for shadows) or bce-dice. [dim]\\[default: structure][/dim]",
            show_default=False,
        ),
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(help="none, flip, flips or strong. [dim]\\[default: flip][/dim]", show_default=False),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything that is drawn. [dim]\\[default: 0][/dim]", show_default=False)
    ] = None,
    precision: Annotated[
        PrecisionName | None,
        typer.Option(
            help="Auto: bf16 or fp16 on a GPU, fp32 on a CPU. [dim]\\[default: auto][/dim]", show_default=False
        ),
    ] = None,
    device: Annotated[
        DeviceName | None,
        typer.Option(help="Auto: a GPU if there is one. [dim]\\[default: auto][/dim]", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    json: Json = False,
) -> None:
    """Fine-tune a SAM on a folder of images.

    The best epoch on the validation images is kept. A first try on a GPU:

        convlora train DATA --model facebook/sam-vit-base --image-size 512 --output RUN
    """
    # Everything heavy is imported here, so that --help answers at once.
    quiet_libraries()
    from accelerate import PartialState

    from convlora.cli.progress import RunProgress
    from convlora.training.config import RunConfig
    from convlora.training.run import train as run_training

    settings = RunConfig()
    if config is not None:
        settings = RunConfig.load(config)
    elif resume and (output / "config.yaml").is_file():
        settings = RunConfig.load(output / "config.yaml")
    given: dict[str, dict[str, Any]] = {
        "data": {"path": data, "augmentation": augmentation},
        "model": {
            "source": model,
            "image_size": None if image_size is None else parse_image_size(image_size),
        },
        "method": {"name": method},
        "training": {
            "epochs": epochs,
            "max_steps": max_steps,
            "batch_size": batch_size,
            "grad_accum": grad_accum,
            "lr": lr,
            "adapt_last": adapt_last,
            "cache": cache,
            "memory": None if memory is None else memory.value,
            "loss": loss,
            "seed": seed,
            "precision": None if precision is None else precision.value,
            "device": None if device is None else device.value,
        },
    }
    for section, entries in given.items():
        settings.update({section: {k: v for k, v in entries.items() if v is not None}}, origin="the command line")
    settings.override(set_ or [])

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
    out.print(scores_table(splits, title=f"Scores of the best epoch ({metrics['best_epoch']})"))
    last = list(splits.values())[-1]
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
