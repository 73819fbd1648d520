"""`convlora export`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Json, MovedModel, Run


class FormatName(enum.StrEnum):
    """Names of formats."""

    ONNX = "onnx"
    TORCH = "torch"


class ExportPrecisionName(enum.StrEnum):
    """Names of the precisions that a file may have."""

    FP32 = "fp32"
    FP16 = "fp16"


def export(
    run: Run,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE.onnx", help="The file, .onnx or .pt2.", show_default=False),
    ],
    format: Annotated[
        FormatName | None,
        typer.Option(help="onnx, or torch for a program of torch.export; by the ending of the file if not given."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Images at a time; any number if not given.", show_default=False),
    ] = None,
    precision: Annotated[
        ExportPrecisionName, typer.Option(help="Precision of the vision encoder. fp16 halves the file.")
    ] = ExportPrecisionName.FP32,
    resolution_cm: Annotated[
        float | None,
        typer.Option(metavar="CM", help="For QGIS: centimetres per pixel of the training images.", show_default=False),
    ] = None,
    tile_overlap: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="For QGIS: share of a tile that the next one covers, too; 0.25 if not given.",
            show_default=False,
        ),
    ] = None,
    model: MovedModel = None,
    json: Json = False,
) -> None:
    """Write a run as one file that other programs run: ONNX, or a program of torch.export.

    The file holds the SAM, the adapters and the decoder. It takes RGB images from 0 to 1, at the run's image size, and
    gives the probability of each class at each pixel. It is run once, and compared with the run, before it gets its
    name. QGIS's Deepness plugin reads it as it is.

    An ONNX file needs: pip install 'convlora[export]'
    """
    with loading_libraries():
        from convlora.api.export import export as export_run
        from convlora.cli.progress import RunProgress

    with RunProgress() as progress:
        result = export_run(
            run,
            output,
            format=None if format is None else format.value,
            batch=batch,
            precision=precision.value,
            resolution_cm=resolution_cm,
            tile_overlap=tile_overlap,
            model=model,
            reporter=progress,
        )
    if json:
        print_json(result)
        return
    height, width = result["image_size"]
    many = "any number of images" if batch is None else "1 image" if batch == 1 else f"{batch} images"
    out.print(f"Wrote {output}, {result['bytes'] / 1e6:.1f} MB", markup=False, soft_wrap=True)
    out.print(f"  input: {many} of {height} x {width} pixels; output: {', '.join(result['classes'])}", markup=False)
    out.print(
        f"  probabilities differ from the run's by at most {result['largest_difference']:.2g}, and "
        f"{100 * result['other_pixels']:.3f}% of the pixels have another class",
        markup=False,
    )
