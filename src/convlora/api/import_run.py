"""Importing a model that other software has trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from convlora.importing.run import import_predictor
from convlora.reporting import Logged, Reporter


def import_run(
    predictor: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Turns a SAM that AutoGluon has fine-tuned into a run folder, as `convlora import` does.

    The run is used like any other: `convlora.predict`, `convlora.evaluate`, [`Segmenter.from_run`]. Nothing in the
    predictor's files is executed.

    Args:
        predictor: The folder that AutoGluon's `MultiModalPredictor` has saved, or one of its `.ckpt` files with
            `config.yaml` beside it. It was fine-tuned with `conv_lora` or `lora`.
        output: The run folder to write.
        model: The SAM that was fine-tuned: a Hugging Face id, or a folder saved by transformers. None: it is taken from
            the predictor, or if that does not hold it, from where `config.yaml` says.
        classes: A `classes.json` that names the classes. None: `background` and `foreground`, or `background`,
            `class 1`, `class 2` and so on.
        reporter: Receives messages; default: they are logged.

    Returns:
        `run`, `imported` (where it came from), `model`, `image_size`, `method`, `classes` and `params`.

    Raises:
        InputError: If it is no such predictor, a file is damaged or needs code to be run, the SAM is not found, or the
            folder is not empty.
    """
    reporter = Logged() if reporter is None else reporter
    return import_predictor(
        predictor,
        Path(output),
        model=None if model is None else os.fspath(model),
        classes=None if classes is None else Path(classes),
        tell=reporter.message,
    )
