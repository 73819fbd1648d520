"""`convlora report`."""

from __future__ import annotations

from typing import Annotated

import typer

from convlora.cli.console import err, loading_libraries, out, print_json
from convlora.cli.options import Device, Json, MovedModel, RunFolder


def report(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option(help="The data the run was trained on, if they are not where they were.", show_default=False),
    ] = None,
    model: MovedModel = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write a page about a run: RUN/report.html.

    Training writes it at its end. Give this command for runs that were interrupted or made by an older version, and to
    draw the page anew. It holds curves, scores, and pictures of the worst and of typical test images.
    """
    with loading_libraries():
        from convlora.report.finished import report_run

    page, notes = report_run(run, data=data, model=model, device=device)
    for note in notes:
        err.print(f"Note: {note}", markup=False, soft_wrap=True)
    if json:
        print_json({"run": str(run), "report": str(page)})
        return
    out.print(f"Look at {page}", markup=False, soft_wrap=True)
