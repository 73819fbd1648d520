"""`convlora predict`."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer

from convlora.cli.console import loading_libraries, out, print_json, show_error
from convlora.cli.options import Batch, Device, Json, MovedModel, Precision, PrecisionName, Run, TestTimeFlips
from convlora.errors import InputError, RunError

_RANKED = 5  # images that are shown


class EngineName(enum.StrEnum):
    """Names of what does the work."""

    LOCAL = "local"
    RAY = "ray"


def predict(
    run: Run,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE_OR_FOLDER...",
            help="Image files, folders, or quoted patterns; or volumes.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.", show_default=False)
    ],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write pictures of image and result.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Write grey images of the classes' numbers, without a palette.")
    ] = False,
    model: MovedModel = None,
    tile: Annotated[
        bool, typer.Option("--tile", help="For large images: segment them in windows of the model's size.")
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
            metavar="SHARE",
            help="Share of a window that the next one covers, too; 0.25 if not given.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what an interrupted prediction of the same run has done.")
    ] = False,
    tta: TestTimeFlips = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="A pixel is foreground if its probability is above this; 0.5 if not given. For two classes only.",
            show_default=False,
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probabilities, as 16-bit TIFF files.")
    ] = False,
    objects: Annotated[
        bool, typer.Option("--objects", help="Also write a table of all connected objects, objects.csv.")
    ] = False,
    polygons: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Also write the outlines of objects: geojson, a file for each image, or coco, one for all.",
            show_default=False,
        ),
    ] = None,
    pixel_size: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH",
            help="Size of a pixel with its unit, such as 0.5um or (height x width) 0.5x0.6um, for lengths and areas.",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        str | None,
        typer.Option(
            metavar="BY",
            help="Also write ranking.csv, which lists the images most worth labelling first. BY is uncertain: the "
            "model is least sure of the first ones.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="TOOL",
            help="Also write the masks as an annotation tool imports them: cvat or labelstudio.",
            show_default=False,
        ),
    ] = None,
    image_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where Label Studio finds the images: what stands before their names. If it is not given, they are in "
            "its local storage, below the folder that holds theirs.",
            show_default=False,
        ),
    ] = None,
    batch_size: Batch = None,
    device: Device = "auto",
    precision: Precision = PrecisionName.AUTO,
    engine: Annotated[
        EngineName,
        typer.Option(help="local: this machine; ray: the machines of a Ray cluster, also with s3:// URIs."),
    ] = EngineName.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --engine ray: processes that hold the model. "
            "[dim]\\[default: one for each GPU, or for every four CPU cores][/dim]",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Segment images with a trained run.

    For each image STEM.* it writes STEM.png: a palette image of the image's own size, whose pixel values are the
    classes, in the colours of classes.json if it gives any. OpenCV and scikit-image make colours of a palette; for them
    there is --plain, which looks black. With --overlay it also writes STEM_overlay.png, a picture for people.
    shares.json tells the share of each class in each image.

    In a folder, the images directly inside it are segmented, not those in its subfolders. A note says what was passed
    over.

    Images are resized to the model's size. With --tile, large ones are segmented in overlapping windows at their own
    resolution instead; the result of a GeoTIFF is then a GeoTIFF, STEM.tif. A run that was trained with --window does
    so by itself, in windows of that size.

    For a volume, a NIfTI file or the folder of a DICOM series, it writes NAME.nii.gz, which lies where the volume does.

    With --objects, objects.csv lists the connected objects of all images: class, area, centre, box, perimeter and mean
    probability. With --polygons it also writes STEM.geojson for each image, or coco.json. With --probabilities it also
    writes STEM_probabilities.tif. With --labels cvat it also writes cvat.xml and cvat_labels.json, and with --labels
    labelstudio it writes labelstudio.json and labelstudio.xml, which these tools import.

    With --rank uncertain, ranking.csv lists the images by how uncertain the model is about them. Correct the first ones
    and train again with them: convlora train DATA --from RUN.

    With --engine ray, the processes of a Ray cluster share the images. Images and --output may then be URIs such as
    s3://bucket/photos. It needs the extra ray, see the page
    "Many machines" of the documentation.
    """
    with loading_libraries():
        from accelerate import PartialState

        from convlora.api.predict import predict as predict_files
        from convlora.cli.progress import RunProgress
        from convlora.runs.hub import resolve_run
        from convlora.runs.reading import read_classes

    with RunProgress() as progress:
        result = predict_files(
            run,
            images,
            output,
            overlay=overlay,
            plain=plain,
            model=model,
            tile=tile,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            resume=resume,
            tta=tta,
            threshold=threshold,
            probabilities=probabilities,
            objects=objects,
            polygons=polygons,
            pixel_size=pixel_size,
            rank=rank,
            labels=labels,
            image_url=image_url,
            batch_size=batch_size,
            device=device,
            precision=precision.value,
            engine=engine.value,
            workers=workers,
            reporter=progress,
        )
    if not PartialState().is_main_process:
        return
    if json:
        print_json(result)
    else:
        _show(result["images"], read_classes(resolve_run(run)).background, output)
        _show_ranking(result)
    failed = result["failed"]
    if failed:
        for one in failed:
            show_error(one["error"])
        others = "; the others are done" if result["images"] else ""
        number = len(failed) + len(result["images"])
        raise (RunError if result["images"] else InputError)(
            f"{len(failed)} of {number} images could not be read{others}."
        )


def _show(results: list[dict[str, Any]], background: int | None, output: str) -> None:
    if not results:
        return
    noun = "volume" if len(results[0]["size"]) == 3 else "image"
    what = noun if len(results) == 1 else f"{noun}s"
    out.print(f"Segmented {len(results)} {what} into {output}", markup=False, soft_wrap=True)
    for index, name in enumerate(results[0]["shares"]):
        if index == background:
            continue
        share = sum(result["shares"][name] for result in results) / len(results)
        out.print(
            f"  value {index}: {name}, {100 * share:.2f}% of {'a' if noun == 'volume' else 'an'} {noun} on average",
            markup=False,
        )


def _show_ranking(result: dict[str, Any]) -> None:
    first = result.get("most_uncertain", [])[:_RANKED]
    if not first:
        return
    scores = {one["image"]: one["uncertainty"] for one in result["images"]}
    out.print(f"Most worth labelling first (all in {result['ranking']}):", markup=False, soft_wrap=True)
    for image in first:
        score = "no data" if scores[image] is None else f"uncertainty {scores[image]:.3f}"
        out.print(f"  {image}: {score}", markup=False, soft_wrap=True)
