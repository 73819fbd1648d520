"""The whole job in minutes, offline: data, fine-tuning, scores before and after, pictures, a report.

It is fine-tuned twice, without and with the detail branch, to show what the branch is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from convlora.data.dataset import read_sample
from convlora.data.reading.bands import picture_of
from convlora.data.reading.read import read_picture
from convlora.data.sample import Sample
from convlora.data.synthetic import TASKS, write_task
from convlora.devices import resolve_device, resolve_precision
from convlora.errors import InputError, RunError
from convlora.inference.files.jobs import picture, run_jobs
from convlora.inference.files.plan import Job
from convlora.inference.scoring import score_samples
from convlora.inference.segmenter import Segmenter
from convlora.metrics import HIGHER_IS_BETTER
from convlora.metrics.labels import SCORE_LABELS
from convlora.models.configuration import as_size
from convlora.report.pages import embedded, write_page
from convlora.report.run_files import read_run
from convlora.report.run_page import curves
from convlora.reporting import Reporter
from convlora.storage import replacing_folder
from convlora.training.bands import config_reading
from convlora.training.config import RunConfig
from convlora.training.defaults import settle_choices
from convlora.training.model import build_model
from convlora.training.run import Interrupted, train
from convlora.training.task import settle_task
from convlora.training.usable_data import UsableData, load_data

DOMAINS = tuple(TASKS)
EPOCHS = 9
NUM_IMAGES = (40, 10, 20)  # to train, validate and test on
PICTURES = 6
IMAGE_SIZE = 256
PATCH_SIZE = 16

NEXT_STEPS = (
    "convlora data check DATA",
    "convlora train DATA --model facebook/sam-vit-base --output RUN",
    "convlora predict RUN PHOTOS --output RESULTS --overlay",
)


def run_quickstart(
    output: Path,
    *,
    data: Path | None,
    domain: str,
    reporter: Reporter,
    say: Callable[[str], None],
    on_bad_image: str = "stop",
) -> dict[str, Any]:
    """Fine-tunes the bundled SAM and reports what it brought.

    Args:
        output: The folder to make.
        data: A data folder; None: one is drawn.
        domain: What is drawn, one of [`DOMAINS`].
        reporter: Receives the progress.
        say: Told which step begins.
        on_bad_image: What files of `data` do that cannot be used: `"stop"`, or be left out (`"skip"`).

    Returns:
        `split`, the images that were scored; `before`, `without` and `after`, their scores before training, after
        training without the detail branch, and after training with it; and the metrics of the last run.

    Raises:
        InputError: If the output folder is not empty, or the data are at fault.
    """
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise InputError(f"{output} exists and is not empty. Give another folder with --output, or delete it.")
    is_drawn = data is None
    if data is None:
        say(f"1. Drawing {sum(NUM_IMAGES)} images of {domain}, with masks")
        num_train, num_val, num_test = NUM_IMAGES
        data = output / "data"
        with replacing_folder(data) as folder:
            write_task(domain, folder, num_train=num_train, num_val=num_val, num_test=num_test)
    else:
        say(f"1. Reading {data}")
    config = quickstart_config(data, on_bad_image, detail="none")
    run = output / "run"
    usable = load_data(config, lambda _: None)  # the training will tell
    say("2. Scoring the bundled SAM as it is, before any training")
    before, tests, split = untrained(config, usable)
    folder = output / "predictions"
    jobs = [Job(test.image, folder / f"{test.name}.png", folder / f"{test.name}_overlay.png") for test in tests]
    shown = tests[:PICTURES]
    before_scores = _score(before, tests, split, reporter)
    first = Column(before_scores, _maps(before, shown))
    say(f"3. Fine-tuning it with Conv-LoRA for {EPOCHS} epochs")
    coarse = _train(config, output / "run-without-detail", output, reporter)
    say(f"4. The same with a detail branch, for what is thinner than SAM's patches of {PATCH_SIZE} pixels")
    metrics = _train(quickstart_config(data, on_bad_image), run, output, reporter)
    say(f"5. Predicting the {split} images")
    without, after = Segmenter.from_run(output / "run-without-detail"), Segmenter.from_run(run)
    for _ in run_jobs(after, jobs):
        pass
    columns = {
        "before": first,
        "without detail branch": Column(_same(coarse, before_scores), _maps(without, shown)),
        "with detail branch": Column(_same(metrics, before_scores), _maps(after, shown)),
    }
    _write_report(output / "report.html", run, metrics, split, columns, after, shown, is_drawn)
    scores = {name: column.scores for name, column in zip(("before", "without", "after"), columns.values())}
    return {"split": split, **scores, **metrics}


class Column(NamedTuple):
    """What is compared on the page: scores, and the semantic maps of the images that are shown."""

    scores: dict[str, float]
    maps: Sequence[np.ndarray]


def _maps(segmenter: Segmenter, samples: Sequence[Sample]) -> Sequence[np.ndarray]:
    return segmenter.predict_maps([_photo(sample, segmenter) for sample in samples])


def _same(metrics: dict[str, Any], scores: dict[str, float]) -> dict[str, float]:
    """The scores of a run on the images that were compared, as far as others have them."""
    found = metrics.get("test") or metrics["val"]
    return {name: found[name] for name in scores}


def _train(config: RunConfig, run: Path, output: Path, reporter: Reporter) -> dict[str, Any]:
    try:
        return train(config, run, reporter=reporter)
    except Interrupted as error:
        raise RunError(f"Interrupted. To start again, delete {output} and give the same command.") from error


def quickstart_config(data: Path, on_bad_image: str = "stop", detail: str = "auto") -> RunConfig:
    """The settings of the quickstart's runs."""
    config = RunConfig()
    config.update(
        {
            "data": {"path": str(data.resolve()), "on_bad_image": on_bad_image},
            "model": {"source": "tiny", "image_size": IMAGE_SIZE, "detail": detail},
            "training": {"epochs": EPOCHS, "batch_size": 4, "grad_accum": 1},
        },
        origin="quickstart",
    )
    return config


def untrained(config: RunConfig, usable: UsableData) -> tuple[Segmenter, Sequence[Sample], str]:
    """The SAM without training as a segmenter, the images to compare on, and what they are called."""
    source, classes = usable.source, usable.classes
    settle_choices(config)
    train_samples, val = source.train_val(config.training.seed, config.data.val_fraction)
    settle_task(config, classes, [*train_samples, *val], lambda _: None)
    device = resolve_device(config.training.device)
    model = build_model(config, classes).to(device)
    segmenter = Segmenter(
        model,
        classes,
        as_size(IMAGE_SIZE),
        config_reading(config),
        resolve_precision(config.training.precision, device),
    )
    test = source.splits.get("test")
    return (segmenter, test, "test") if test else (segmenter, val, "validation")


def _score(segmenter: Segmenter, samples: Sequence[Sample], split: str, reporter: Reporter) -> dict[str, float]:
    reporter.validate_begin(len(samples), split)
    scores = score_samples(
        segmenter.model,
        samples,
        segmenter.classes,
        image_size=segmenter.image_size,
        batch_size=4,
        precision=segmenter.precision,
        intensity=segmenter.intensity,
        structure=False,
        progress=reporter.validate_step,
    ).compute()
    reporter.validate_end(None, scores, "miou" if "miou" in scores else "iou", False)
    return scores


def _photo(sample: Sample, segmenter: Segmenter) -> Image.Image:
    return read_picture(sample.image, segmenter.intensity)


def _write_report(
    path: Path,
    run: Path,
    metrics: dict[str, Any],
    split: str,
    compared: dict[str, Column],
    segmenter: Segmenter,
    shown: Sequence[Sample],
    is_drawn: bool,
) -> None:
    params, classes = metrics["params"], segmenter.classes
    names = ", ".join(f"'{name}'" for index, name in enumerate(classes.names) if index != classes.background)
    trivial = (metrics.get("test") or metrics["val"])["trivial"]
    columns = {name: column.scores for name, column in compared.items()}
    columns |= {name.replace("_", " "): scores for name, scores in trivial.items()}
    rows = [
        [
            SCORE_LABELS[name] + ("" if higher else " (lower is better)"),
            *(_number(scores.get(name)) for scores in columns.values()),
        ]
        for name, higher in HIGHER_IS_BETTER.items()
        if name in compared["before"].scores
    ]
    pictures = []
    for number, sample in enumerate(shown):
        seen, truth = read_sample(sample, classes, segmenter.intensity)
        image = picture_of(seen)
        maps = (truth, *(column.maps[number] for column in compared.values()))
        pictures.append([embedded(one) for one in (image, *(picture(image, each, classes) for each in maps))])
    content: dict[str, Any] = {
        "title": "SAM, fine-tuned with Conv-LoRA",
        "found": names,
        "epochs": len(metrics["history"]),
        "steps": metrics["steps"],
        "seconds": f"{metrics['seconds_per_step']:.2f}",
        "trainable": f"{params['trainable']:,}",
        "total": f"{params['total']:,}",
        "patch": PATCH_SIZE,
        "is_drawn": is_drawn,
        "split": split,
        "header": ["", *columns],
        "rows": rows,
        "curves": [drawing.inline() for drawing in curves(read_run(run)) if drawing is not None],
        "pictures": (["image", "truth", *compared], pictures),
        "next_steps": "\n".join(NEXT_STEPS),
    }
    write_page(path, "quickstart.html", **content)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
