"""`convlora data ...`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from convlora.cli.console import out, print_json
from convlora.cli.options import Json

if TYPE_CHECKING:
    from convlora.data.report import CheckReport

app = typer.Typer(no_args_is_help=True, help="Look after data sets.", rich_markup_mode="rich")


@app.callback()
def group() -> None:
    """Look after data sets."""


@app.command("check")
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data set, as for 'train'.", show_default=False)],
    json: Json = False,
) -> None:
    """Read every image and mask once and list each problem with its file.

    Exit code 0: fit for training; 2: there are errors.
    """
    from convlora.cli.progress import track
    from convlora.data.check import check_data
    from convlora.data.sources import open_data

    source = open_data(data)
    report = check_data(source, full=True, progress=track)
    if json:
        print_json({"data": data, **report.to_dict()})
        raise typer.Exit(2 if report.errors else 0)

    for problem in report.problems:
        out.print(
            f"[bold {'red' if problem.severity == 'error' else 'yellow'}]{problem.severity}[/] [dim]{problem.kind}[/]",
            end=" ",
        )
        out.print(problem.message, markup=False, soft_wrap=True)
    table = _shares(report)
    out.print(table)
    if report.image_sizes is not None:
        small, large = report.image_sizes.smallest, report.image_sizes.largest
        sizes = f"{small[1]}x{small[0]}" + (f" to {large[1]}x{large[0]}" if small != large else "")
        out.print(f"Image size (width x height): {sizes}", markup=False)
    errors, warnings = len(report.errors), len(report.warnings)
    out.print(
        "No problems found." if not errors + warnings else f"{errors} errors, {warnings} warnings.",
        style="bold green" if not errors else "bold red",
    )
    raise typer.Exit(2 if errors else 0)


def _shares(report: CheckReport) -> Table:
    """Images of each split, and the share of the pixels that each class has there: one class per line."""
    table = Table()
    table.add_column("share of the pixels")
    for split in report.counts:
        table.add_column(split, justify="right")
    for index, name in enumerate(report.classes.names if report.classes else ()):
        cells = []
        for split in report.counts:
            pixels = report.class_pixels.get(split, [])
            cells.append(f"{100 * pixels[index] / max(sum(pixels), 1):.2f}%" if pixels else "")
        table.add_row(escape(name), *cells)
    if report.ignored_pixels:
        cells = []
        for split in report.counts:
            ignored = report.ignored_pixels.get(split, 0)
            cells.append(f"{100 * ignored / max(ignored + sum(report.class_pixels.get(split, [])), 1):.2f}%")
        table.add_row("ignored, of all pixels", *cells, style="dim")
    table.add_section()
    table.add_row("images", *map(str, report.counts.values()))
    return table
