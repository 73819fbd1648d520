"""The runs that are served, and what is told about them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch

from convlora.data.reading.bands import bands_taken, channels_of
from convlora.data.reading.volumes.slicing import Slicing
from convlora.errors import InputError
from convlora.inference.outputs import is_binary
from convlora.inference.segmenter import Segmenter
from convlora.methods.registry import find_method
from convlora.metrics import HIGHER_IS_BETTER
from convlora.models.bundled import BUNDLED
from convlora.models.shared_weights import share_equal_weights
from convlora.pictures.palette import class_colours, hexadecimal
from convlora.runs.reading import read_metrics, read_settings
from convlora.serve.names import name_runs


class ServedRun(NamedTuple):
    """A run that is loaded.

    Attributes:
        segmenter: Its model.
        facts: What is told about it.
        has_probability: Whether it tells a foreground by one probability.
        note: What speaks against giving it images; None: nothing.
    """

    segmenter: Segmenter
    facts: dict[str, Any]
    has_probability: bool
    note: str | None = None


def load_runs(
    folders: list[Path],
    *,
    model: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    tta: bool = False,
    loading: Callable[[str], None] | None = None,
) -> tuple[dict[str, ServedRun], int]:
    """Loads runs and lets each answer once, so that what is wrong with one is found now.

    Args:
        folders: The run folders.
        model: As of `Segmenter.load`, like the next three; it is for the runs that have a SAM.
        device: Likewise.
        precision: Likewise.
        tta: Likewise.
        loading: Called with the name of a run before it is loaded.

    Returns:
        The runs by name, and the bytes that they save because weights that are equal are in memory once.

    Raises:
        InputError: If one cannot be loaded.
        RunError: If the answer of one is not finite.
    """
    named = name_runs(folders)
    # All are read before the first model is loaded, which takes long.
    needs_sam = {name: _needs_sam(read_settings(folder)) for name, folder in named.items()}
    runs: dict[str, ServedRun] = {}

    def models() -> Iterator[torch.nn.Module]:
        for name, folder in named.items():
            if loading is not None:
                loading(name)
            own = model if needs_sam[name] or not any(needs_sam.values()) else None
            segmenter = Segmenter.load(folder, model=own, device=device, precision=precision, tta=tta)
            yield segmenter.model
            has_probability = _answers_binary(segmenter)
            facts = _facts(name, folder, segmenter, has_probability)
            note = Slicing.of(read_settings(folder)["data"]).note_on_images()
            runs[name] = ServedRun(segmenter, facts, has_probability, note)

    saved = share_equal_weights(models())
    return runs, saved


def _needs_sam(settings: Mapping[str, Any]) -> bool:
    return find_method(str(settings["method"]["name"])).network is None


def _answers_binary(segmenter: Segmenter) -> bool:
    outputs = segmenter.outputs(
        [torch.zeros(channels_of(segmenter.intensity), *segmenter.image_size, dtype=torch.uint8)]
    )
    return is_binary(next(outputs)[0])


def _facts(name: str, folder: Path, segmenter: Segmenter, has_probability: bool) -> dict[str, Any]:
    settings, classes = read_settings(folder), segmenter.classes
    try:
        metrics = read_metrics(folder) or {}
    except InputError:  # scores are no reason not to segment
        metrics = {}
    split = "test" if metrics.get("test") else "val"
    scores = {key: value for key, value in (metrics.get(split) or {}).items() if key in HIGHER_IS_BETTER}
    threshold = metrics.get("threshold") if has_probability else None
    return {
        "name": name,
        "classes": [
            {"index": index, "name": label, "color": hexadecimal(colour)}
            for index, (label, colour) in enumerate(zip(classes.names, class_colours(classes)))
        ],
        "background": classes.background,
        "no_data": segmenter.value_without_class,
        "has_probability": has_probability,
        "image_size": list(segmenter.image_size),
        "window": None if segmenter.tiles is None else segmenter.tiles.size,
        "bands": bands_taken(segmenter.intensity),
        "base_model": _base_model(settings),
        "method": str(settings["method"]["name"]),
        "scores": scores or None,
        "scores_of": split if scores else None,
        "best_threshold": threshold.get("best") if isinstance(threshold, dict) else None,
    }


def _base_model(settings: Mapping[str, Any]) -> str:
    """What a run was trained from; of a folder only the last name, as the others are nobody's business."""
    source = str(settings["model"]["source"])
    if source in BUNDLED or not (os.path.isabs(source) or source.startswith((".", "~"))):  # noqa: PTH117
        return source
    return PurePath(source).name
