"""`convlora train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.training_options import Config, Given, Json, Set, check_length, takes_settings
from convlora.settings.checking import COMMAND_LINE
from convlora.settings.declaration import BASICS

if TYPE_CHECKING:
    from convlora.training.config import RunConfig


@takes_settings()
def train(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="RUN", help="Run folder to write.", show_default=False, rich_help_panel=BASICS
        ),
    ],
    given: Given,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Resume the run in --output.", rich_help_panel=BASICS)
    ] = False,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Fine-tune a SAM on your images.

    The epoch with the best score on the validation images is kept. A first try on a GPU:

        convlora train DATA --model facebook/sam-vit-base --image-size 512 --output RUN
    """
    settings = _settings(output, given, resume=resume, config=config, assignments=set_ or [])
    # Everything heavy is imported here, so that --help and wrong settings are answered at once.
    with loading_libraries():
        from accelerate import PartialState

        from convlora.cli.progress import RunProgress
        from convlora.training.run import train as run_training

    with RunProgress() as progress:
        metrics = run_training(settings, output, resume=resume, reporter=progress)
    if not PartialState().is_main_process:
        return
    if json:
        print_json({"run": str(output), **metrics})
    else:
        _show(metrics, output)


def _settings(output: Path, given: Given, *, resume: bool, config: Path | None, assignments: list[str]) -> RunConfig:
    """The settings of a file, then those of the options, then those of `--set`."""
    from convlora.training.config import RunConfig

    settings = RunConfig()
    if config is not None:
        settings = RunConfig.load(config)
    elif resume and (output / "config.yaml").is_file():
        settings = RunConfig.load(output / "config.yaml")
    if config is not None and "name" in given.get("method", {}):
        with loading_libraries():
            from convlora.methods.registry import find_method
            from convlora.training.validation import leave_out_sam

        if find_method(given["method"]["name"]).network is not None:
            leave_out_sam(settings)  # it was not meant for this method; --model beside it would be
    if resume and given.get("training", {}).get("memory") == "auto":
        # What was chosen the first time, from what was asked for then, is no starting point for choosing again.
        for name in ("batch_size", "grad_accum", "activation_checkpointing"):
            setattr(settings.training, name, getattr(RunConfig().training, name))
    settings.update(given, origin=COMMAND_LINE)
    settings.override(assignments)
    settings.check_ranges()
    check_length(settings.training.budget_seconds, given)
    return settings


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
                **({"look at": output / "report.html"} if (output / "report.html").is_file() else {}),
            }
        )
    )
    out.print(f"Next: convlora predict {output} IMAGE_OR_FOLDER --output DIR --overlay", markup=False, soft_wrap=True)
