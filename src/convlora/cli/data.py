"""`convlora data ...`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Json, parse_image_size
from convlora.errors import InputError

_MOST_OF_A_KIND = 20
_MOST_CLASSES = 50  # in the table: more would push the findings off the screen

_FORMAT_HELP = (
    "auto, coco, yolo, labelme, voc, cvat, roboflow, labelstudio, supervisely, nnunet, mmseg, pairs, instances, folder."
)

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
    detail: Annotated[
        str | None,
        typer.Option(
            metavar="none|half|full",
            help="The detail branch that you will train with. Masks are drawn at half or full image size, and with "
            "none at a quarter of it. [dim]\\[default: half][/dim]",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Read every image and mask once and list each problem with its file.

    It also tells what an image size can reach at best: the masks are reduced to the grid that the model draws on, and
    enlarged again.

    Exit code 0: fit for training; 2: there are errors.
    """
    with loading_libraries():
        from convlora.api.check_data import check_data
        from convlora.cli.progress import RunProgress

    size = None if image_size is None else parse_image_size(image_size)
    with RunProgress() as progress:
        report = check_data(data, image_size=size, detail=detail or "auto", reporter=progress)
    if json:
        print_json(report)
    else:
        _show(report)
    raise typer.Exit(0 if report["ok"] else 2)


def _show(report: dict[str, Any]) -> None:
    _show_problems(report["problems"])
    out.print(_shares(report))
    sizes = report["image_sizes"]
    if sizes is not None:
        small, large = ("x".join(map(str, reversed(sizes[name]))) for name in ("smallest", "largest"))
        out.print(f"Image size (width x height): {small}" + (f" to {large}" if small != large else ""), markup=False)
    if report["bands"] and report["bands"] not in ([1], [3], [1, 3]):
        out.print(f"Bands of an image: {', '.join(map(str, report['bands']))}", markup=False)
    for split, volumes in report["volumes"].items():
        out.print(_volumes(split, volumes), markup=False, soft_wrap=True)
    if report["advice"] is not None:
        out.print(report["advice"], markup=False, soft_wrap=True)
    errors = sum(problem["severity"] == "error" for problem in report["problems"])
    warnings = len(report["problems"]) - errors
    out.print(
        f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}." if errors + warnings else "No problems found.",
        style="bold green" if not errors else "bold red",
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _show_problems(problems: list[dict[str, Any]]) -> None:
    """The first of each kind, and how many more there are."""
    told: Counter[tuple[str, str]] = Counter()
    for problem in problems:
        what = problem["severity"], problem["kind"]
        told[what] += 1
        if told[what] > _MOST_OF_A_KIND:
            continue
        colour = "red" if problem["severity"] == "error" else "yellow"
        out.print(f"[bold {colour}]{problem['severity']}[/] [dim]{problem['kind']}[/]", end=" ")
        out.print(problem["message"], markup=False, soft_wrap=True)
    for (severity, kind), count in told.items():
        if count > _MOST_OF_A_KIND:
            out.print(f"{count - _MOST_OF_A_KIND:,} more of this kind ({severity} {kind}), see --json", style="dim")


def _volumes(split: str, volumes: list[dict[str, Any]]) -> str:
    """One line on the volumes of a split."""
    slices = [one["shape"][0] for one in volumes]
    number = f"{min(slices)}" if min(slices) == max(slices) else f"{min(slices)} to {max(slices)}"
    spacings = sorted({" x ".join(f"{side:.3g}" for side in one["spacing"]) for one in volumes if one["spacing"]})
    known = "spacing unknown" if not spacings else f"spacing {spacings[0]} mm (slices x rows x columns)"
    others = f" and {len(spacings) - 1} other spacings" if len(spacings) > 1 else ""
    return f"Volumes in {split}: {len(volumes)} with {number} slices, {known}{others}"


@app.command("convert")
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder, annotation file or zip archive of another tool.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)] = ...,  # type: ignore[assignment]
    format: Annotated[str, typer.Option(metavar="NAME", help=_FORMAT_HELP)] = "auto",
    suffix: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What masks have behind the names of their images. [dim]\\[default: _mask and other usual ones][/dim]",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="For masks with soft edges or saved as JPEG: grey value (1-255) from which on a pixel is foreground.",
            show_default=False,
        ),
    ] = None,
    instances: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What numbered objects become: foreground, or border (inside and border). "
            "[dim]\\[default: foreground][/dim]",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="SHARES",
            help="auto (70/15/15 where splits are missing), none, or shares such as 80/10/10.",
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the division into splits.")] = 0,
    json: Json = False,
) -> None:
    """Write data of a labelling tool or another trainer as a data folder.

    The format is recognised and named. Images are copied and masks are drawn. DATA/overlays.html shows some of them,
    so that you can check them by eye.
    """
    with loading_libraries():
        from convlora.api.convert_data import convert_data
        from convlora.cli.progress import RunProgress

    with RunProgress() as progress:
        made = convert_data(
            source,
            output,
            format=format,
            suffix=suffix,
            threshold=threshold,
            instances=instances,
            split=split,
            seed=seed,
            reporter=progress,
        )
    if json:
        print_json(made)
        return
    for note in made["notes"]:
        out.print(note, markup=False, soft_wrap=True)
    _show_problems(made["problems"])
    names = made["classes"]["classes"]
    shares = [f"{name} {100 * share:.2f}%" for name, share in zip(names, made["class_shares"], strict=True)]
    more = f" and {len(shares) - _MOST_CLASSES:,} more" if len(shares) > _MOST_CLASSES else ""
    out.print(f"Classes: {', '.join(shares[:_MOST_CLASSES])}{more}.", markup=False, soft_wrap=True)
    counts = ", ".join(f"{count} {split}" for split, count in made["counts"].items())
    out.print(f"{made['data']} is ready: {counts}. See {made['page']}.", markup=False, soft_wrap=True)
    out.print(f"Train on it with: convlora train {made['data']} --output RUN", markup=False, soft_wrap=True)


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
    json: Json = False,
) -> None:
    """Fetch the data of a published experiment and write them as a data folder.

    If it is interrupted, give the same command again. Archives that have arrived are not fetched again.
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
        made = prepare_data(entry, output, given=from_, mirror=mirror, track=track, transfer=transfer)
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


def _shares(report: dict[str, Any]) -> Table:
    """Images of each split, and the share of the pixels that each class has there: one class per line."""
    table = Table()
    table.add_column("share of the pixels")
    counts, class_pixels = report["counts"], report["class_pixels"]
    for split in counts:
        table.add_column(escape(split), justify="right")
    names = report["classes"]["classes"] if report["classes"] else ()
    for index, name in enumerate(names[:_MOST_CLASSES]):
        cells = []
        for split in counts:
            pixels = class_pixels.get(split, [])
            cells.append(f"{100 * pixels[index] / max(sum(pixels), 1):.2f}%" if pixels else "")
        table.add_row(escape(name), *cells)
    if len(names) > _MOST_CLASSES:
        table.add_row(f"{len(names) - _MOST_CLASSES:,} more classes, see --json", style="dim")
    if report["ignored_pixels"]:
        cells = []
        for split in counts:
            ignored = report["ignored_pixels"].get(split, 0)
            cells.append(f"{100 * ignored / max(ignored + sum(class_pixels.get(split, [])), 1):.2f}%")
        table.add_row("ignored, of all pixels", *cells, style="dim")
    table.add_section()
    table.add_row("images", *map(str, counts.values()))
    return table
