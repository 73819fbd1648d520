"""`convlora import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Json


def import_(
    predictor: Annotated[
        str,
        typer.Argument(
            metavar="PREDICTOR",
            help="Folder of a predictor of AutoGluon, or one of its .ckpt files with config.yaml beside it.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder to write.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="The SAM that was fine-tuned: a Hugging Face id, or a folder saved by transformers. The run then "
            "refers to it. Without it the SAM is taken from the predictor, if it is there, and written into the run.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A classes.json that names the classes.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Turn a SAM that AutoGluon has fine-tuned into a run.

    The model was fine-tuned by AutoGluon's MultiModalPredictor with Conv-LoRA or LoRA (optim.peft: conv_lora or lora).
    The run gives the same logits, and is used like any other. Nothing in the predictor's files is executed.
    """
    with loading_libraries():
        from convlora.api.import_run import import_run
        from convlora.cli.progress import RunProgress

    with RunProgress() as progress:
        result = import_run(predictor, output, model=model, classes=classes, reporter=progress)
    if json:
        print_json(result)
        return
    software, method = result["imported"]["software"], result["method"]["name"]
    out.print(f"Imported into {output}: {method}, trained by {software}.", markup=False, soft_wrap=True)
    out.print(f"  classes: {', '.join(result['classes'])}", markup=False, soft_wrap=True)
    out.print(f"  model: {result['model']}", markup=False, soft_wrap=True)
    out.print(f"Use it with: convlora predict {output} photos/ --output results", markup=False, soft_wrap=True)
