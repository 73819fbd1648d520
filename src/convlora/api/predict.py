"""Segmenting files with a finished run, into a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from convlora.api.predict_on_ray import check_engine, predict_on_ray
from convlora.api.predict_volumes import predict_volumes, refuse_for_volumes
from convlora.data.reading.bands import BandReading
from convlora.data.reading.volumes.slicing import Slicing
from convlora.errors import InputError
from convlora.inference.files.extras import Extras
from convlora.inference.files.jobs import run_jobs, shares_of
from convlora.inference.files.left_out import parts_left_out
from convlora.inference.files.of_all import STEMS, check_files_of_all, write_files_of_all
from convlora.inference.files.passed_over import passed_over
from convlora.inference.files.pieces import forget_pieces
from convlora.inference.files.plan import Job, check_output, collect_images, coordinates_lost, plan
from convlora.inference.files.resuming import PRESENCE, DoneList, fingerprint
from convlora.inference.files.shares import add_shares, check_shares
from convlora.inference.files.volumes import collect_volumes
from convlora.inference.fleet.work import Task
from convlora.inference.segmenter import Segmenter
from convlora.inference.windows import OVERLAP, Tiles
from convlora.locking import among_others
from convlora.models.bundled import absolute
from convlora.reporting import Logged, Reporter
from convlora.runs.hub import resolve_run
from convlora.runs.reading import read_settings
from convlora.storage import sweep

# The first process to finish waits for the others, however long their images take.
_PATIENCE = timedelta(days=30)


def predict(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    overlay: bool = False,
    plain: bool = False,
    model: str | os.PathLike[str] | None = None,
    tile: bool = False,
    tile_size: int | None = None,
    tile_overlap: float | None = None,
    resume: bool = False,
    tta: bool = False,
    threshold: float | None = None,
    probabilities: bool = False,
    objects: bool = False,
    polygons: str | None = None,
    pixel_size: str | None = None,
    rank: str | None = None,
    labels: str | None = None,
    image_url: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "local",
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Segments images and writes the results into a folder, as `convlora predict` does.

    An image that cannot be read does not stop the others. Several processes (`torchrun`, `accelerate launch`) share the
    images.

    Args:
        run: The run folder that training wrote, or `hf:USER/NAME[@REVISION]` on the Hugging Face Hub.
        images: Image files, folders, or patterns such as `"photos/*.jpg"`; one or several. Or volumes: NIfTI files,
            folders of DICOM series.
        output: Folder for the results.
        overlay: Also write pictures of image and result.
        plain: Write grey images instead of palette images.
        model: The SAM the run was trained from, if it has moved.
        tile: Segment large images in overlapping windows of the model's size, at their own resolution. A run that was
            trained on windows does so anyway, in windows of that size.
        tile_size: Longer side of a window in pixels of the image; implies `tile`.
        tile_overlap: Share of a window that overlaps with the next; None: 0.25.
        resume: Keep the results that an interrupted prediction with the same settings has finished.
        tta: Average the probabilities of each image or window and its three flips; four times the time.
        threshold: A pixel is foreground if its probability is above this; None: 0.5. For two classes only.
        probabilities: Also write the probabilities as 16-bit TIFF files.
        objects: Also write a table of all connected objects, `objects.csv`.
        polygons: Also write the outlines of the objects: `"geojson"`, a file for each image, or `"coco"`, one for all.
        pixel_size: How large a pixel is, such as `"0.5um"` or, height x width, `"0.5x0.6um"`; None: as a GeoTIFF says.
        rank: `"uncertain"`: also write a table of the images, those most worth labelling first, `ranking.csv`.
        labels: Also write the masks as an annotation tool imports them: `"cvat"` or `"labelstudio"`.
        image_url: For `labels="labelstudio"`: what stands before the names of images in their addresses, such as
            `"https://example.org/photos/"`; None: where Label Studio serves the folder of each image from its disk.
        batch_size: Images or windows at a time; None: 8 on a GPU, 1 on a CPU.
        device: `"auto"` or a device by PyTorch's name.
        precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
        engine: `"local"`, or `"ray"` for the machines of a Ray cluster; images and output may then be `s3://` URIs.
        workers: With Ray: how many processes hold the model; None: one for each GPU, or for every four CPU cores.
        reporter: Receives progress and messages; default: they are logged.

    Returns:
        `run`, `output`, `images` (for each: `image`, `mask`, `overlay`, `size`, `shares` of the classes, and if wanted
        `probabilities`, `polygons`, the number of `objects`, `uncertainty` and `mean_uncertainty`), `failed` (for each:
        `image` and `error`), and if wanted the files of all images: `objects`, `coco`, `ranking`, `cvat` and
        `cvat_labels`, or `labelstudio` and `labelstudio_config`; and the images in the order of the ranking,
        `most_uncertain`. With several processes, all of it in the first and nothing
        in the others.

    Raises:
        InputError: If the run cannot be read, there are no images, or options contradict each other.
    """
    reporter = Logged() if reporter is None else reporter
    given = [os.fspath(images)] if isinstance(images, (str, os.PathLike)) else [os.fspath(one) for one in images]
    if not given:
        raise InputError("No images are named. Give files, folders or patterns.")
    engine_extras = {"--polygons coco": polygons == "coco", "--labels": labels is not None, "--rank": rank is not None}
    check_output(given, os.fspath(output))
    check_engine(engine, workers, [*given, os.fspath(output)], engine_extras, device)
    folder = resolve_run(run)
    slicing = Slicing.of(read_settings(folder)["data"])
    volumes = collect_volumes(given, slicing)
    if volumes:
        refuse_for_volumes(
            {
                "--overlay": overlay,
                "--plain": plain,
                "--tile": tile,
                "--tile-size": tile_size,
                "--tile-overlap": tile_overlap,
                "--resume": resume,
                "--probabilities": probabilities,
                "--objects": objects,
                "--polygons": polygons,
                "--pixel-size": pixel_size,
                "--rank": rank,
                "--labels": labels,
                "--image-url": image_url,
                "--engine ray": engine == "ray",
            }
        )
        chosen = Segmenter.load(folder, model=model, device=device, precision=precision, tta=tta, threshold=threshold)
        return predict_volumes(str(run), volumes, Path(output), slicing, batch_size, reporter, chosen)
    note_on_images = slicing.note_on_images()
    if note_on_images is not None:
        reporter.message(f"Note: {note_on_images}")
    tiles = tiles_of(tile, tile_size, tile_overlap, read_settings(folder)["data"].get("window"))
    extras = Extras.of(probabilities, objects, polygons, pixel_size, rank, labels, image_url)
    how: list[Any] = [tiles, overlay, None if model is None else absolute(os.fspath(model))]
    options: list[Any] = [name for name, is_given in (("tta", tta), ("plain", plain)) if is_given]
    options += [*([] if threshold is None else [("threshold", threshold)]), *extras.described()]
    if engine == "ray":
        task = Task(
            run=os.fspath(run),
            output=os.fspath(output),
            made_by="",
            token="",
            model=how[2],
            device=device,
            precision=precision,
            tta=tta,
            threshold=threshold,
            tiles=tiles,
            batch_size=batch_size,
            overlay=overlay,
            plain=plain,
            extras=extras,
        )
        return predict_on_ray(task, given, [*how, precision, *options], workers, resume, reporter)
    output = Path(output)
    found = collect_images(given)
    by_points = extras.check_sizes(found)
    jobs = plan(found, output, overlay, tiled=tiles is not None, extras=extras)
    names = [job.mask.stem for job in jobs]
    segmenter = Segmenter.load(folder, model=model, device=device, precision=precision, tta=tta, threshold=threshold)
    processes = PartialState(cpu=segmenter.device.type == "cpu", timeout=_PATIENCE)
    done = DoneList(output, fingerprint(folder, *how, segmenter.precision, *options), processes.process_index)
    with among_others(output, PRESENCE) if processes.is_main_process else nullcontext() as presence:
        earlier = done.earlier(jobs) if resume else {}
        processes.wait_for_everyone()  # all have read it
        if presence is not None:
            check_shares(output, segmenter.classes, names)
            check_files_of_all(output, segmenter.classes, names, extras)
            with presence.alone() as is_alone:
                if is_alone:  # otherwise these files may belong to another prediction that is running
                    sweep(output, {path.stem for job in jobs for path in job.files()} | STEMS)
                    if not resume:
                        done.forget()
                        forget_pieces(output)
            # Of bands it is said which are read, and others are an error.
            unused = None if isinstance(segmenter.intensity, BandReading) else parts_left_out(found)
            lost = coordinates_lost(jobs, tiled=tiles is not None)
            for note in (passed_over(given, found, output), lost, by_points, unused):
                if note is not None:
                    reporter.message(f"Note: {note}")
        processes.wait_for_everyone()  # nothing is written before
        own = [job for job in jobs if job not in earlier][processes.process_index :: processes.num_processes]
        reporter.predict_begin(len(own))
        new = run_jobs(
            segmenter,
            own,
            batch_size=batch_size,
            tiles=tiles,
            plain=plain,
            extras=extras,
            progress=reporter.predict_step,
            windows=None if tiles is None else reporter.windows,
            done=done,
        )
        results = gather_object(list(new))
        reporter.predict_end()
        if presence is None:
            return {}
        results = _in_order([*earlier.values(), *results], jobs)
        add_shares(output, segmenter.classes, shares_of(results), names)
        done_ones = [result for result in results if "error" not in result]
        good = {result["image"] for result in done_ones}
        pieces = [job.piece for job in jobs if job.piece is not None and str(job.image) in good]
        of_all = write_files_of_all(output, segmenter.classes, names, pieces, extras, done_ones, Path(run).name)
        if not any("error" in result for result in results):  # else --resume needs the list once these are repaired
            with presence.alone() as is_alone:
                if is_alone:
                    done.forget()
                    forget_pieces(output)
    if earlier:
        reporter.message(f"{len(earlier)} of {len(jobs)} images were done before.")
    return {
        "run": str(run),
        "output": str(output),
        "images": [result for result in results if "error" not in result],
        "failed": [result for result in results if "error" in result],
        **of_all,
    }


def tiles_of(tile: bool, size: int | None, overlap: float | None, trained_on: int | None = None) -> Tiles | None:
    """How to cut images into windows; None: not at all.

    Args:
        tile: Whether it was asked for.
        size: Longer side of a window.
        overlap: Share of a window.
        trained_on: Longer side of the windows that the run was trained on; it is then always done.

    Raises:
        InputError: If an overlap is given without windows, or a number makes no sense.
    """
    if trained_on is not None:
        return Tiles(trained_on if size is None else size, OVERLAP if overlap is None else overlap, mirrored=True)
    if not tile and size is None:
        if overlap is not None:
            raise InputError(
                "--tile-overlap has no effect without --tile or --tile-size. Add one of them, or leave it out."
            )
        return None
    return Tiles(size, OVERLAP if overlap is None else overlap)


def _in_order(results: list[dict[str, Any]], jobs: list[Job]) -> list[dict[str, Any]]:
    places = {str(job.image): place for place, job in enumerate(jobs)}
    return sorted(results, key=lambda result: places[result["image"]])
