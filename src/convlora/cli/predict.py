"""`convlora predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convlora.cli.console import out, print_json, quiet_libraries, show_error
from convlora.cli.options import Device, DeviceName, Json, MovedModel, Precision, PrecisionName, Run
from convlora.errors import RunError

if TYPE_CHECKING:
    from convlora.data.classes import ClassTable


def predict(
    run: Run,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE_OR_FOLDER...", help="Image files, folders, or quoted patterns.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write pictures of image and result.")] = False,
    model: MovedModel = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 1,
    device: Device = DeviceName.AUTO,
    precision: Precision = PrecisionName.AUTO,
    json: Json = False,
) -> None:
    """Segment images with a trained run.

    For each image STEM.* it writes STEM.png: a palette image of the image's own size, whose pixel values are the
    classes, in the colours of classes.json if it gives any. With --overlay also STEM_overlay.png, to be looked at.
    shares.json tells how much of each image is of which class.
    """
    from convlora.inference.files import collect_images, plan

    jobs = plan(collect_images(images), output, overlay)
    quiet_libraries()
    from convlora.cli.progress import progress_bar
    from convlora.inference.predict import run_jobs
    from convlora.inference.segmenter import Segmenter

    segmenter = Segmenter.from_run(run, model=model, device=device.value, precision=precision.value)
    with progress_bar() as bar:
        task = bar.add_task("Predicting", total=len(jobs), note="")
        results = list(run_jobs(segmenter, jobs, batch_size=batch_size, progress=lambda done: bar.advance(task, done)))
    failed = [result for result in results if "error" in result]
    results = [result for result in results if "error" not in result]
    if json:
        print_json({"run": str(run), "output": str(output), "images": results, "failed": failed})
    else:
        _show(results, segmenter.classes, output)
    if failed:
        for result in failed:
            show_error(result["error"])
        raise RunError(f"{len(failed)} of {len(jobs)} images could not be read; the others are done.")


def _show(results: list[dict[str, Any]], classes: ClassTable, output: Path) -> None:
    if not results:
        return
    noun = "image" if len(results) == 1 else "images"
    out.print(f"Segmented {len(results)} {noun} into {output}", markup=False, soft_wrap=True)
    for index, name in enumerate(classes.names):
        if index != classes.background:
            share = sum(result["shares"][name] for result in results) / len(results)
            out.print(f"  value {index}: {name}, {100 * share:.2f}% of an image on average", markup=False)
