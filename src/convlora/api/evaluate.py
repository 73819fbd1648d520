"""Scoring a finished run on a data set."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from convlora.data.checking.check import check_data
from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.bands import BandReading
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.sources.opening import ALL, open_data
from convlora.devices import default_batch, default_workers
from convlora.errors import InputError
from convlora.inference.scoring import new_baselines, score_samples
from convlora.inference.segmenter import Segmenter
from convlora.inference.volume_scores import VolumeScores
from convlora.metrics import MultiClassScores
from convlora.report.confusion import write_confusion
from convlora.reporting import Logged, Reporter
from convlora.runs.hub import resolve_run
from convlora.runs.reading import read_settings
from convlora.storage import make_folder, write_json


def evaluate(
    run: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    split: str = "test",
    output: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    tta: bool = False,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Scores a run on a data set with masks, each image at its own size.

    A run that was trained on windows sees the images in such windows, as [`predict`][convlora.predict] does.

    Args:
        run: The run folder that training wrote, or `hf:USER/NAME[@REVISION]` on the Hugging Face Hub.
        data: Data set, as for training.
        split: Part of the data to score. Data without splits are scored whole.
        output: Folder for `scores.json` and, with several classes, the confusion matrix; None: nothing is written.
        model: The SAM the run was trained from, if it has moved.
        tta: Average the probabilities of each image and its three flips; four times the time.
        batch_size: Images at a time; None: 8 on a GPU, 1 on a CPU.
        device: `"auto"` or a device by PyTorch's name.
        precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
        reporter: Receives progress and messages; default: they are logged.

    Returns:
        The scores by name, with `run`, `data`, `split`, `tta`, and the scores of `trivial` answers. Of volumes also
        `volumes`, see [`VolumeScores.compute`][convlora.inference.volume_scores.VolumeScores.compute].

    Raises:
        InputError: If the run or the data cannot be read, or their classes differ.
    """
    reporter = Logged() if reporter is None else reporter
    folder, data = resolve_run(run), os.fspath(data)
    settings = read_settings(folder)
    slicing = Slicing.of(settings["data"])
    source = open_data(data, slicing=slicing)
    undivided = split not in source.splits
    source = source.only(split)
    samples = source.split(split)
    segmenter = Segmenter.load(folder, model=model, device=device, precision=precision)
    trained_on = settings["data"]["path"]
    same = bool(trained_on) and Path(data).resolve() == Path(trained_on).resolve()
    report = check_data(
        source,
        full=False,
        known=segmenter.classes,
        is_known=same,
        intensity=segmenter.intensity if isinstance(segmenter.intensity, BandReading) else None,
        in_windows=segmenter.tiles is not None,
    )
    report.raise_errors()
    for warning in report.warnings:
        reporter.message(f"Warning: {warning.message}")
    if undivided:
        split = ALL
        if same:
            reporter.message(
                f"Note: {data} has no test split, so all {len(samples)} images are scored. The run was trained on some "
                "of them. Its scores on images that it did not see are in its metrics.json, under 'val'."
            )
    note = slicing.note_on_images()
    if note is not None and not source.volume_kinds():
        reporter.message(f"Note: {note}")
    classes = _matched(report.classes, segmenter.classes, str(run), data, reporter)
    trivial = new_baselines(classes)
    reporter.validate_begin(len(samples), split)
    volumes = VolumeScores(classes)
    collected = score_samples(
        segmenter.model,
        samples,
        classes,
        image_size=segmenter.image_size,
        batch_size=default_batch(segmenter.device) if batch_size is None else batch_size,
        workers=default_workers(segmenter.device, len(samples)),
        precision=segmenter.precision,
        intensity=segmenter.intensity,
        tiles=segmenter.tiles,
        tta=tta,
        trivial=trivial,
        volumes=volumes,
        progress=reporter.validate_step,
    )
    given = {"run": str(run), "data": str(Path(data)), "split": split, "tta": tta}
    result: dict[str, Any] = {**given, **collected.compute(), "trivial": trivial.compute()}
    of_volumes = volumes.compute()
    if of_volumes is not None:
        result["volumes"] = of_volumes
    if output is not None:
        folder = make_folder(Path(output))
        write_json(folder / "scores.json", result)
        if isinstance(collected, MultiClassScores):
            write_confusion(folder, classes.names, collected.confusion)
    return result


def _matched(found: ClassTable | None, known: ClassTable, run: str, data: str, reporter: Reporter) -> ClassTable:
    """The classes of the data in the order of the run's.

    Raises:
        InputError: If there are more or fewer, or they are unknown.
    """
    if found is None or found.num_classes != known.num_classes:
        names = "unknown" if found is None else ", ".join(found.names)
        raise InputError(
            f"The run {run} has the classes {', '.join(known.names)}, but those of {data} are {names}. "
            "Evaluate it on data with the same classes."
        )
    spelt = {name.casefold(): name for name in known.names}
    if spelt.keys() == {name.casefold() for name in found.names} and len(spelt) == found.num_classes:
        found = replace(found, names=tuple(spelt[name.casefold()] for name in found.names))
    if set(found.names) == set(known.names):
        return found.in_order_of(known.names)  # another export may number them differently
    reporter.message(
        f"Note: the classes of the run are {', '.join(known.names)}, those of the data {', '.join(found.names)}. "
        "They are matched by their order."
    )
    return found
