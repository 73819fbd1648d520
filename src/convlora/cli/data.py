"""`convlora data ...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Json, parse_image_size
from convlora.cli.training_options import setting_option
from convlora.errors import InputError

if TYPE_CHECKING:
    from convlora.data.reach import Reach
    from convlora.data.report import CheckReport

_MOST_CLASSES = 50  # in the table: more would push the findings off the screen

app = typer.Typer(no_args_is_help=True, help="Look after data sets.", rich_markup_mode="rich")


@app.callback()
def group() -> None:
    """Look after data sets."""


@app.command("check")
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data set, as for 'train'.", show_default=False)],
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Size (or HxW) to tell of what it can reach at best. [dim]\\[default: some common sizes][/dim]",
            show_default=False,
        ),
    ] = None,
    detail: Annotated[str | None, setting_option("model.detail", group="")] = None,
    json: Json = False,
) -> None:
    """Read every image and mask once and list each problem with its file.

    It also tells what an image size can reach at best: the masks are reduced to the grid that the model draws on, and
    enlarged again.

    Exit code 0: fit for training; 2: there are errors.
    """
    from convlora.cli.progress import track
    from convlora.data.check import check_data
    from convlora.data.fitness import unfit_for_training
    from convlora.data.sources import open_data

    size = None if image_size is None else as_pair(image_size)
    cell = None if detail is None else _cell(detail)
    source = open_data(data)
    report = check_data(source, full=True, progress=track)
    report.problems += unfit_for_training(source, report)
    sentence, reached = (None, []) if report.errors else _reach(report, size, cell)
    if json:
        reachable = [{"image_size": list(one.size), "iou": one.iou} for one in reached]
        print_json({"data": data, **report.to_dict(), "reachable": reachable})
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
    if sentence is not None:
        out.print(sentence, markup=False, soft_wrap=True)
    errors, warnings = len(report.errors), len(report.warnings)
    out.print(
        "No problems found." if not errors + warnings else f"{errors} errors, {warnings} warnings.",
        style="bold green" if not errors else "bold red",
    )
    raise typer.Exit(2 if errors else 0)


@app.command("prepare")
def prepare(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a recipe, see 'convlora recipes'.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)] = ...,  # type: ignore[assignment]
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the terms of the data and accept them.")
    ] = False,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", help="Archive or folder that was fetched by hand already.", show_default=False
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Fetch the files from this address instead.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archives after they were read.")] = False,
    json: Json = False,
) -> None:
    """Fetch the data of a published experiment and write them as a data folder.

    Interrupted transfers go on where they were: give the same command again.
    """
    from convlora.cli.progress import byte_bars, track
    from convlora.prepare.catalogue import find_entry
    from convlora.prepare.prepare import prepare as prepare_data

    entry = find_entry(name)
    if not accept_licence:
        raise InputError(
            f"{entry.title}, from {entry.homepage}. {entry.licence} If you accept the terms, give --accept-licence."
        )
    with byte_bars() as transfer:
        made = prepare_data(entry, output, given=from_, mirror=mirror, keep=keep, track=track, transfer=transfer)
    if json:
        print_json({"data": str(made.folder), "counts": made.counts, "notes": made.notes})
        return
    for note in made.notes:
        out.print(note, markup=False, soft_wrap=True)
    splits = ", ".join(f"{count} {split}" for split, count in made.counts.items())
    state = "is there already" if made.again else "is ready"
    out.print(f"{made.folder} {state}: {splits}.", markup=False, soft_wrap=True)
    out.print(
        f"Train on it with: convlora train {made.folder} --config recipe:{name} --output RUN",
        markup=False,
        soft_wrap=True,
    )


def as_pair(image_size: str) -> tuple[int, int]:
    """(height, width) of what was given for `--image-size`.

    Raises:
        InputError: If it is no size that a model can work at.
    """
    size = parse_image_size(image_size)
    with loading_libraries():
        from convlora.models.configuration import IMAGE_MULTIPLE, checked_size
    try:
        height, width = checked_size(size, IMAGE_MULTIPLE)
    except ValueError as error:
        raise InputError(f"--image-size: {error}") from error
    return height, width


def _cell(detail: str | None) -> int:
    """Side of the cells that masks are drawn in with a setting of `--detail`.

    Raises:
        InputError: If there is no such setting.
    """
    with loading_libraries():
        from convlora.data.reach import CELL
        from convlora.models.detail import AUTO

    detail = AUTO if detail in (None, "auto") else detail
    if detail not in CELL:
        raise InputError(f"--detail must be one of auto, {', '.join(CELL)}, got '{detail}'.")
    return CELL[detail]


def _reach(report: CheckReport, size: tuple[int, int] | None, cell: int | None) -> tuple[str | None, Sequence[Reach]]:
    """What image sizes can reach at best on the images to train on: a sentence, and the figures."""
    with loading_libraries():
        from convlora.data.reach import describe_size, describe_sizes
        from convlora.data.sources import ALL

    samples = report.splits.get("train") or report.splits.get(ALL, [])
    if report.classes is None or not samples:
        return None, []
    cell = _cell(None) if cell is None else cell
    if size is None:
        return describe_sizes(samples, report.classes, cell)
    return describe_size(samples, report.classes, size, cell)


def _shares(report: CheckReport) -> Table:
    """Images of each split, and the share of the pixels that each class has there: one class per line."""
    table = Table()
    table.add_column("share of the pixels")
    for split in report.counts:
        table.add_column(escape(split), justify="right")
    names = report.classes.names if report.classes else ()
    for index, name in enumerate(names[:_MOST_CLASSES]):
        cells = []
        for split in report.counts:
            pixels = report.class_pixels.get(split, [])
            cells.append(f"{100 * pixels[index] / max(sum(pixels), 1):.2f}%" if pixels else "")
        table.add_row(escape(name), *cells)
    if len(names) > _MOST_CLASSES:
        table.add_row(f"{len(names) - _MOST_CLASSES:,} more classes, see --json", style="dim")
    if report.ignored_pixels:
        cells = []
        for split in report.counts:
            ignored = report.ignored_pixels.get(split, 0)
            cells.append(f"{100 * ignored / max(ignored + sum(report.class_pixels.get(split, [])), 1):.2f}%")
        table.add_row("ignored, of all pixels", *cells, style="dim")
    table.add_section()
    table.add_row("images", *map(str, report.counts.values()))
    return table
