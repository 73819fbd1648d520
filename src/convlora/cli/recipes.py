"""`convlora recipes`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from convlora.cli.console import out, print_json
from convlora.cli.options import Json

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
def show(name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)], json: Json = False) -> None:
    """Print the settings of one."""
    from convlora.recipes import read_recipe

    recipe = read_recipe(name)
    if json:
        print_json({key: value for key, value in recipe._asdict().items() if key != "text"})
        return
    out.print(recipe.text, markup=False, highlight=False, soft_wrap=True, end="")
