"""`convlora compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import err, loading_libraries, out, print_json
from convlora.cli.training_options import Config, Given, Json, Set, check_length, takes_settings
from convlora.errors import InputError
from convlora.settings.checking import COMMAND_LINE

_COMPARISON = "Comparison"


@takes_settings(without=("method.name", "training.seed", "training.cache"))
def compare(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder to write.", show_default=False, rich_help_panel=_COMPARISON
        ),
    ],
    given: Given,
    methods: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Methods, separated by commas. Options of a method follow after colons: conv-lora:top_k=2. all: every "
            "method.",
            rich_help_panel=_COMPARISON,
        ),
    ] = "unet,decoder,lora,conv-lora",
    seeds: Annotated[
        int,
        typer.Option(metavar="N", help="Runs of each method, with the seeds 0, 1, 2, ...", rich_help_panel=_COMPARISON),
    ] = 3,
    train_fraction: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Shares of the training images to train on, such as 0.05,0.25,1.",
            rich_help_panel=_COMPARISON,
        ),
    ] = "1",
    lr_search: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Learning rates to try for each method, such as 3e-4,1e-3. The best one on the validation images is "
            "taken.",
            show_default=False,
            rich_help_panel=_COMPARISON,
        ),
    ] = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Train several methods on the same data and compare them.

    All methods see the same images in the same order, for the same number of steps, or with --budget-seconds for the
    same time. The best epoch is chosen by the same rule. The unet shows whether SAM is worth it.

    Give the same command again to resume. Finished runs are not trained again. To add methods or seeds, name them
    together with the earlier ones. Results are compare.html, compare.json and compare.csv.
    """
    from convlora.training.config import RunConfig

    settings = RunConfig() if config is None else RunConfig.load(config)
    settings.update(given, origin=COMMAND_LINE)
    settings.override(set_ or [])
    settings.check_ranges()
    check_length(settings.training.budget_seconds, given)
    if settings.data.path is None:
        raise InputError("No data are named. Give a data set: convlora compare DATA --output DIR.")
    fractions, rates = _numbers(train_fraction, "--train-fraction"), _numbers(lr_search or "", "--lr-search")

    with loading_libraries():
        from convlora.cli.tables import comparison_table
        from convlora.comparison.page import write_page
        from convlora.comparison.plan import make_plan
        from convlora.comparison.run import run_plan
        from convlora.comparison.summary import sum_up
        from convlora.methods.registry import METHODS
        from convlora.models.bundled import absolute

    settings.data.path, settings.model.source = absolute(settings.data.path), absolute(settings.model.source)
    names = list(METHODS) if methods.strip() == "all" else _split(methods)
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
