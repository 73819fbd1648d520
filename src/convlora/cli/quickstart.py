"""`convlora quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Json
from convlora.cli.training_options import setting_option
from convlora.settings.checking import COMMAND_LINE


def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")] = Path("convlora-quickstart"),
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your own data folder, as for 'train'. [dim]\\[default: images are drawn][/dim]", show_default=False
        ),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            help="What is drawn: cells, cracks, leaves, or town (five classes). [dim]\\[default: cracks][/dim]",
            show_default=False,
        ),
    ] = None,
    on_bad_image: Annotated[str | None, setting_option("data.on_bad_image", group="")] = None,
    json: Json = False,
) -> None:
    """See the method work in two or three minutes, offline, on a CPU.

    A small SAM that comes with the package is fine-tuned on images drawn on the spot (or on yours: --data), without and
    with its detail branch, and scored before and after. The folder then holds a page to look at, report.html.
    """
    with loading_libraries():
        from convlora.cli.progress import RunProgress
        from convlora.errors import InputError
        from convlora.quickstart import DOMAINS, NEXT_STEPS, run_quickstart
        from convlora.training.config import RunConfig

    if data is not None and domain is not None:
        raise InputError("--domain says what is drawn, and with --data nothing is. Leave one out.")
    if data is None and on_bad_image is not None:
        raise InputError("--on-bad-image is for your own images, and without --data some are drawn. Leave it out.")
    if on_bad_image is not None:
        RunConfig().update({"data": {"on_bad_image": on_bad_image}}, origin=COMMAND_LINE)
    domain = domain or "cracks"
    if domain not in DOMAINS:
        raise InputError(f"--domain must be one of {', '.join(DOMAINS)}, got '{domain}'.")
    with RunProgress() as progress:
        result = run_quickstart(
            output,
            data=data,
            domain=domain,
            reporter=progress,
            say=progress.message,
            on_bad_image=on_bad_image or "stop",
        )
    if json:
        print_json({"output": str(output), **result})
        return
    _show(result, output)
    out.print("\nThe same with your own images:")
    for command in NEXT_STEPS:
        out.print(f"  {command}", markup=False, soft_wrap=True)


def _show(result: dict[str, Any], output: Path) -> None:
    from convlora.cli.tables import facts_table, scores_table

    trivial = (result.get("test") or result["val"])["trivial"]
    columns = {
        "before": result["before"],
        "without detail branch": result["without"],
        "with it": {**result["after"], "trivial": trivial},
    }
    out.print(scores_table(columns, title=f"Scores on the {result['split']} images, before and after fine-tuning"))
    params = result["params"]
    out.print(
        facts_table(
            {
                "weights trained": f"{params['trainable']:,} of {params['total']:,}",
                "time per step": f"{result['seconds_per_step']:.3g} s",
                "peak memory": f"{result['peak_memory_mb']:,.0f} MB",
                "look at": output / "report.html",
                "pictures": output / "predictions",
            }
        )
    )
