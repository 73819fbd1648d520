"""`convlora predict`."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convlora.cli.console import err, loading_libraries, out, print_json, show_error
from convlora.cli.options import Batch, Device, Json, MovedModel, Precision, PrecisionName, Run, TestTimeFlips
from convlora.errors import InputError, RunError

if TYPE_CHECKING:
    from convlora.data.classes import ClassTable
    from convlora.inference.windows import Tiles


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
    plain: Annotated[
        bool, typer.Option("--plain", help="Write grey images of the classes' numbers, without a palette.")
    ] = False,
    model: MovedModel = None,
    tile: Annotated[
        bool, typer.Option("--tile", help="For large images: look at them in windows of the model's size.")
    ] = False,
    tile_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Longer side of a window in the image; means --tile too.", show_default=False
        ),
    ] = None,
    tile_overlap: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Of a window, shared with the next one; 0.25 if not given.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what an interrupted prediction of the same run has done.")
    ] = False,
    tta: TestTimeFlips = False,
    batch_size: Batch = None,
    device: Device = "auto",
    precision: Precision = PrecisionName.AUTO,
    json: Json = False,
) -> None:
    """Segment images with a trained run.

    For each image STEM.* it writes STEM.png: a palette image of the image's own size, whose pixel values are the
    classes, in the colours of classes.json if it gives any. OpenCV and scikit-image make colours of a palette; for them
    there is --plain, which looks black. With --overlay also STEM_overlay.png, to be looked at.
    shares.json tells how much of each image is of which class.

    Of a folder the images in it are segmented, without those in its subfolders; a note tells what was passed over.

    Images are resized to the model's size. With --tile, large ones are looked at in overlapping windows at their own
    resolution instead; the result of a GeoTIFF is then a GeoTIFF, STEM.tif.
    """
    from convlora.inference.files import collect_images, coordinates_lost, plan

    tiles = _tiles(tile, tile_size, tile_overlap)
    found = collect_images(images)
    jobs = plan(found, output, overlay, tiled=tiles is not None)
    with loading_libraries():
        from accelerate import PartialState
        from accelerate.utils import gather_object

        from convlora.cli.progress import progress_bar, window_bar
        from convlora.inference.left_out import parts_left_out
        from convlora.inference.passed_over import passed_over
        from convlora.inference.predict import run_jobs, shares_of
        from convlora.inference.resuming import PRESENCE, DoneList, fingerprint
        from convlora.inference.segmenter import Segmenter
        from convlora.inference.shares import add_shares, check_shares
        from convlora.locking import among_others
        from convlora.models.bundled import absolute
        from convlora.storage import sweep

    segmenter = Segmenter.from_run(run, model=model, device=device, precision=precision.value, tta=tta)
    # Whoever is done first waits for the others, however long their images take.
    processes = PartialState(cpu=segmenter.device.type == "cpu", timeout=timedelta(days=30))
    how: list[Any] = [tiles, overlay, None if model is None else absolute(str(model)), segmenter.precision]
    how += [name for name, is_given in (("tta", tta), ("plain", plain)) if is_given]
    done = DoneList(output, fingerprint(run, *how), processes.process_index)
    with among_others(output, PRESENCE) if processes.is_main_process else nullcontext() as presence:
        earlier = done.earlier(jobs) if resume else {}
        processes.wait_for_everyone()  # all have read it
        if presence is not None:
            stems = {path.stem for job in jobs for path in (job.mask, job.overlay) if path is not None}
            check_shares(output, segmenter.classes, (job.mask.stem for job in jobs))
            with presence.alone() as is_alone:
                if is_alone:  # or it might be what another prediction is writing
                    sweep(output, stems)
                if is_alone and not resume:
                    done.forget()
            lost = coordinates_lost(jobs, tiled=tiles is not None)
            for note in (passed_over(images, found, output), lost, parts_left_out(found)):
                if note is not None:
                    err.print(f"Note: {note}", markup=False, soft_wrap=True)
        processes.wait_for_everyone()  # nobody has written yet
        own = [job for job in jobs if job not in earlier][processes.process_index :: processes.num_processes]
        with progress_bar() as bar:
            task = bar.add_task("Predicting", total=len(own), note="")
            images_done = partial(bar.advance, task)
            shown = None if tiles is None else window_bar(bar)
            new = run_jobs(
                segmenter,
                own,
                batch_size=batch_size,
                tiles=tiles,
                plain=plain,
                progress=images_done,
                windows=shown,
                done=done,
            )
            results = gather_object(list(new))
        if presence is None:
            return
        order = {str(job.image): place for place, job in enumerate(jobs)}
        results = sorted([*earlier.values(), *results], key=lambda result: order[result["image"]])
        add_shares(output, segmenter.classes, shares_of(results))
        if not any("error" in result for result in results):  # else the others are kept for when these are mended
            with presence.alone() as is_alone:
                if is_alone:
                    done.forget()
    if earlier:
        err.print(f"{len(earlier)} of {len(jobs)} images were done before.")
    failed = [result for result in results if "error" in result]
    results = [result for result in results if "error" not in result]
    if json:
        print_json({"run": str(run), "output": str(output), "images": results, "failed": failed})
    else:
        _show(results, segmenter.classes, output)
    if failed:
        for result in failed:
            show_error(result["error"])
        others = "; the others are done" if results else ""
        raise RunError(f"{len(failed)} of {len(jobs)} images could not be read{others}.")


def _tiles(tile: bool, size: int | None, overlap: float | None) -> Tiles | None:
    from convlora.inference.windows import OVERLAP, Tiles

    if not tile and size is None:
        if overlap is not None:
            raise InputError("--tile-overlap is of windows, which nothing asks for. Add --tile or --tile-size.")
        return None
    return Tiles(size, OVERLAP if overlap is None else overlap)


def _show(results: list[dict[str, Any]], classes: ClassTable, output: Path) -> None:
    if not results:
        return
    noun = "image" if len(results) == 1 else "images"
    out.print(f"Segmented {len(results)} {noun} into {output}", markup=False, soft_wrap=True)
    for index, name in enumerate(classes.names):
        if index != classes.background:
            share = sum(result["shares"][name] for result in results) / len(results)
            out.print(f"  value {index}: {name}, {100 * share:.2f}% of an image on average", markup=False)
