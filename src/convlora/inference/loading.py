"""The model of a run, or the models of its folds, as they are used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.bands import Reading, reading_of
from convlora.devices import resolve_precision, set_matmul_precision
from convlora.errors import InputError
from convlora.inference.members import FoldedModel
from convlora.inference.thresholds import check_threshold
from convlora.methods.registry import find_method
from convlora.models.build import load_model
from convlora.models.configuration import as_size, encoder_width
from convlora.models.fingerprint import sample_weights
from convlora.models.parameters import halve_frozen_weights
from convlora.models.room import check_room
from convlora.models.shared_weights import share_equal_weights
from convlora.runs.adapters import load_adapter
from convlora.runs.folds import fold_folders
from convlora.runs.reading import adapter_folder, check_sam, first_line, read_classes, read_settings, sam_of


class LoadedRun(NamedTuple):
    """What a run is used with.

    Attributes:
        model: The segmenter, on its device; of folds a [`FoldedModel`].
        classes: Its classes.
        image_size: (height, width) it works at.
        intensity: How values of images become 8 bits, or which bands are read.
        precision: Precision of the frozen part.
        compile: The setting `training.compile`.
        window: Longer side of the windows it was trained on; None: it sees images whole.
    """

    model: nn.Module
    classes: ClassTable
    image_size: tuple[int, int]
    intensity: Reading
    precision: str
    compile: str
    window: int | None


def load_run(
    run: Path, device: torch.device, precision: str, *, model: str | None = None, threshold: float | None = None
) -> LoadedRun:
    """Loads the best weights of a run, or of each of its folds. Folds have the weights they share in memory once.

    Args:
        run: The run folder.
        device: Where to.
        precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
        model: Where the SAM is, if it is not where it was.
        threshold: What is to be the threshold, which is checked before anything large is read.

    Raises:
        InputError: If something cannot be read or makes no sense, or the folds do not fit together.
    """
    read_settings(run)  # says what is wrong with a folder that is no run
    folders = fold_folders(run)
    if not folders:
        return _load_one(run, device, precision, model, threshold)
    loaded: list[LoadedRun] = []

    def models() -> Iterator[nn.Module]:
        for folder in folders:
            loaded.append(_load_one(folder, device, precision, model, threshold))
            if _shape(loaded[-1]) != _shape(loaded[0]):
                raise InputError(
                    f"{folder} has other classes or another image size than {folders[0]}. Restore the run {run}."
                )
            yield loaded[-1].model

    share_equal_weights(models())
    return loaded[0]._replace(model=FoldedModel(one.model for one in loaded))


def _shape(run: LoadedRun) -> tuple[object, ...]:
    """What must be alike for answers to be averaged."""
    model: Any = run.model
    config = model.base_model.model.config
    heads = [getattr(config, name, None) for name in ("head", "num_mask_tokens")]
    return (run.classes.names, run.image_size, run.intensity, run.window, *heads)


def _load_one(run: Path, device: torch.device, precision: str, model: str | None, threshold: float | None) -> LoadedRun:
    settings, classes, weights = read_settings(run), read_classes(run), adapter_folder(run)
    trained_from = sam_of(run, str(settings["model"]["source"]))
    source = trained_from if model is None else model
    check_threshold(threshold, classes)
    method, options = find_method(str(settings["method"]["name"])), dict(settings["method"])
    del options["name"]
    if model is not None and method.network is not None:
        raise InputError(f"The run {run} trained a U-Net, which needs no SAM. Leave out --model.")
    try:
        base = load_model(
            method.name,
            options,
            source,
            image_size=settings["model"]["image_size"],
            attention=settings["model"]["attention"],
            num_classes=classes.num_classes,
            id2label=dict(enumerate(classes.names)),
            head=settings["model"].get("head", "auto"),
            num_mask_tokens=settings["model"].get("num_mask_tokens"),
            decoder=settings["model"].get("decoder", "sam"),  # runs of older versions have no other
            detail=settings["model"].get("detail", "none"),  # nor this branch
            bands=settings["model"].get("bands"),
        )
    except InputError as error:
        if method.network is not None:
            raise InputError(f"{error} Restore {run}/config.yaml from a copy.") from error
        raise InputError(
            f"{error} (The run {run} was trained from '{trained_from}'; name its new place with --model.)"
        ) from error
    except (ValueError, TypeError) as error:
        raise InputError(
            f"'{source}' cannot be made into what {run}/config.yaml says ({first_line(error)}). Restore that file "
            "from a copy, or give the model it was trained from with --model."
        ) from error
    check_room(base.config, device)
    precision = resolve_precision(precision, device, encoder_width(base.config))
    sam = sample_weights(base.vision_encoder)  # before it is changed
    try:
        adapted = load_adapter(base, weights, settings["method"], settings["training"]["adapt_last"])
    except InputError as error:
        raise InputError(f"{error} (The run {run} was trained from '{trained_from}'.)") from error
    check_sam(run, sam, source)
    set_matmul_precision(device, precision)
    halve_frozen_weights(adapted.base_model.model.vision_encoder, precision)
    return LoadedRun(
        adapted.to(device),
        classes,
        as_size(settings["model"]["image_size"]),
        reading_of(settings["data"], settings["model"]),
        precision,
        settings["training"].get("compile", "auto"),
        settings["data"].get("window"),  # runs of older versions have none
    )
