"""`convlora compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convlora.api.settings import Given, check, settings_of
from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.training_options import Config, Json, Set, takes_settings
from convlora.errors import InputError

_COMPARISON = "Comparison"


@takes_settings(without=("method.name", "training.seed", "training.cache", "model.from_run", "data.folds"))
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
    settings = settings_of(config, given)
    settings.override(set_ or [])
    check(settings, given)
    fractions, rates = _numbers(train_fraction, "--train-fraction"), _numbers(lr_search or "", "--lr-search")

    with loading_libraries():
        from convlora.api.compare import compare as compare_methods
        from convlora.cli.progress import RunProgress
        from convlora.cli.tables import comparison_table, published_table
        from convlora.recipes.published import CAVEAT

    with RunProgress() as progress:
        summary = compare_methods(
            None,
            output,
            methods=methods,
            seeds=seeds,
            train_fraction=fractions,
            lr_search=rates,
            config=settings,
            reporter=progress,
        )
    if json:
        print_json(summary)
        return
    for fraction in dict.fromkeys(row["train_fraction"] for row in summary["rows"]):
        out.print(comparison_table(summary, fraction))
    if summary["published"]:
        out.print(published_table(summary["published"], "Beside the published scores"))
        out.print(CAVEAT, markup=False, soft_wrap=True)
    out.print(f"Look at {output / 'compare.html'}", markup=False, soft_wrap=True)


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"{option} must be numbers with commas between them, got '{text}'.") from error
