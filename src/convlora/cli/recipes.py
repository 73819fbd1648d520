"""`convlora recipes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from convlora.cli.console import out, print_json
from convlora.cli.options import Json

if TYPE_CHECKING:
    from convlora.recipes import Recipe

app = typer.Typer(help="List the published experiments that come as settings.", rich_markup_mode="rich")


@app.callback(invoke_without_command=True)
def list_recipes(context: typer.Context, json: Json = False) -> None:
    """List the published experiments that come as settings.

    Train one with: convlora train DATA --config recipe:NAME --output RUN
    """
    if context.invoked_subcommand is not None:
        return
    from convlora.recipes import read_recipe, recipe_names

    recipes = [read_recipe(name) for name in recipe_names()]
    if json:
        print_json({"recipes": [{"name": one.name, "title": one.title, "metrics": one.metrics} for one in recipes]})
        return
    table = Table()
    for column in ("recipe", "what", "scores"):
        table.add_column(column)
    for one in recipes:
        table.add_row(one.name, one.title, ", ".join(one.metrics))
    out.print(table)
    out.print("Fetch its data with: convlora data prepare NAME --output DATA", soft_wrap=True)
    out.print("Train it with: convlora train DATA --config recipe:NAME --output RUN", soft_wrap=True)


@app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a recipe, see 'convlora recipes'.", show_default=False)
    ],
    runs: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="Show the test scores of this run beside the published ones. Can be repeated.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Print the settings of one, or with --run its published scores beside yours."""
    from convlora.recipes import read_recipe

    recipe = read_recipe(name)
    if runs:
        _show_beside(recipe, runs, json)
    elif json:
        print_json({key: value for key, value in recipe._asdict().items() if key != "text"})
    else:
        out.print(recipe.text, markup=False, highlight=False, soft_wrap=True, end="")


def _show_beside(recipe: Recipe, runs: list[str], json: bool) -> None:
    from convlora.errors import InputError
    from convlora.recipes.published import CAVEAT, beside
    from convlora.runs.hub import resolve_run
    from convlora.runs.reading import read_metrics

    ours = {}
    for run in runs:
        metrics = read_metrics(resolve_run(run))
        if metrics is None or not metrics.get("test"):
            raise InputError(f"The run {run} has no test scores. Finish it, on data that have a test split.")
        ours[run] = metrics["test"]
    rows = beside(recipe, ours)
    if json:
        print_json({"recipe": recipe.name, "rows": rows})
        return
    from convlora.cli.tables import published_table

    out.print(published_table(rows, recipe.title))
    out.print(CAVEAT, markup=False, soft_wrap=True)
    if recipe.note and any(row["part"] for row in rows):
        out.print(recipe.note, markup=False, soft_wrap=True)
