"""`convlora evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import err, loading_libraries, out, print_json
from convlora.cli.options import Batch, Device, Json, MovedModel, Precision, PrecisionName, Run, TestTimeFlips


def evaluate(
    run: Run,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Data set with masks, as for 'train'.", show_default=False)
    ],
    split: Annotated[str, typer.Option(help="Which part of the data.")] = "test",
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
    """Score a run on a data set, each image at its own size."""
    with loading_libraries():
        from convlora.cli.progress import RunProgress
        from convlora.cli.tables import classes_table, scores_table
        from convlora.data.check import check_data
        from convlora.data.sources import ALL, open_data
        from convlora.devices import default_batch, default_workers
        from convlora.errors import InputError
        from convlora.inference.evaluate import score_samples
        from convlora.inference.runs import read_settings
        from convlora.inference.scoring import new_baselines
        from convlora.inference.segmenter import Segmenter
        from convlora.metrics import MultiClassScores
        from convlora.report.confusion import write_confusion
        from convlora.storage import make_folder, write_json

    source = open_data(data)
    undivided = split not in source.splits
    source = source.only(split)
    samples = source.split(split)
    segmenter = Segmenter.from_run(run, model=model, device=device, precision=precision.value)
    trained_on = read_settings(run)["data"]["path"]
    same = Path(data).resolve() == Path(trained_on or "").resolve()
    report = check_data(source, full=False, known=segmenter.classes, is_known=same)
    report.raise_errors()
    for warning in report.warnings:
        err.print(f"Warning: {warning.message}", markup=False, soft_wrap=True)
    if undivided:
        split = ALL
        if same:
            err.print(
                f"Note: {data} has no split of its own for testing, so all {len(samples)} images are scored, those "
                "included that the run was trained on. How it does on others is in its metrics.json, under 'val'.",
                markup=False,
                soft_wrap=True,
            )
    classes = report.classes
    if classes is None or classes.num_classes != segmenter.classes.num_classes:
        found = "unknown" if classes is None else ", ".join(classes.names)
        raise InputError(
            f"The run {run} tells {', '.join(segmenter.classes.names)} apart, but the classes of {data} are {found}. "
            "Evaluate it on data with the same classes."
        )
    spelt = {name.casefold(): name for name in segmenter.classes.names}
    if spelt.keys() == {name.casefold() for name in classes.names} and len(spelt) == classes.num_classes:
        classes = replace(classes, names=tuple(spelt[name.casefold()] for name in classes.names))
    if set(classes.names) == set(segmenter.classes.names):
        classes = classes.in_order_of(segmenter.classes.names)  # another export may number them otherwise
    else:
        err.print(
            f"Note: the run calls its classes {', '.join(segmenter.classes.names)}, "
            f"the data {', '.join(classes.names)}.",
            markup=False,
            soft_wrap=True,
        )
    trivial = new_baselines(classes)
    with RunProgress() as progress:
        progress.validate_begin(len(samples), split)
        collected = score_samples(
            segmenter.model,
            samples,
            classes,
            image_size=segmenter.image_size,
            batch_size=default_batch(segmenter.device) if batch_size is None else batch_size,
            workers=default_workers(segmenter.device, len(samples)),
            precision=segmenter.precision,
            intensity=segmenter.intensity,
            tta=tta,
            trivial=trivial,
            progress=progress.validate_step,
        )
    scores: dict[str, Any] = collected.compute()
    given = {"run": str(run), "data": str(Path(data)), "split": split, "tta": tta}
    result = {**given, **scores, "trivial": trivial.compute()}
    if output is not None:
        make_folder(output)
        write_json(output / "scores.json", result)
        if isinstance(collected, MultiClassScores):
            write_confusion(output, classes.names, collected.confusion)
    if json:
        print_json(result)
        return
    out.print(scores_table({split: {**scores, "trivial": trivial.compute()}}, title=f"{run} on {data}"))
    if "per_class" in scores:
        out.print(classes_table(scores["per_class"]))
