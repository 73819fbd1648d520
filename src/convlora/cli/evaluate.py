"""`convlora evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Batch, Device, Json, MovedModel, Precision, PrecisionName, Run, TestTimeFlips


def evaluate(
    run: Run,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Data set with masks, as for 'train'.", show_default=False)
    ],
    split: Annotated[str, typer.Option(help="Which split to score: train, val or test.")] = "test",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for scores.json and, with several classes, the confusion matrix.",
            show_default=False,
        ),
    ] = None,
    model: MovedModel = None,
    tta: TestTimeFlips = False,
    batch_size: Batch = None,
    device: Device = "auto",
    precision: Precision = PrecisionName.AUTO,
    json: Json = False,
) -> None:
    """Score a run on a data set, each image at its own size.

    A run that was trained with --window sees images in such windows.
    """
    with loading_libraries():
        from convlora.api.evaluate import evaluate as evaluate_run
        from convlora.cli.progress import RunProgress
        from convlora.cli.tables import classes_table, scores_table, volumes_table

    with RunProgress() as progress:
        result = evaluate_run(
            run,
            data,
            split=split,
            output=output,
            model=model,
            tta=tta,
            batch_size=batch_size,
            device=device,
            precision=precision.value,
            reporter=progress,
        )
    if json:
        print_json(result)
        return
    out.print(scores_table({result["split"]: result}, title=f"{run} on {data}"))
    if "per_class" in result:
        out.print(classes_table(result["per_class"]))
    if "volumes" in result:
        out.print(volumes_table(result["volumes"]))
