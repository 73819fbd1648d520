"""Which images a run trains on, and what follows from them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from convlora.data.classes.class_table import ClassTable
from convlora.data.sample import Sample
from convlora.data.windows import Windows
from convlora.errors import InputError
from convlora.inference.windows import Tiles
from convlora.runs.reading import read_classes
from convlora.training.context import Context
from convlora.training.effects import check_effects
from convlora.training.folding import fold_images
from convlora.training.origin import check_samples
from convlora.training.slices import leave_out_empty
from convlora.training.usable_data import SKIPPED, UsableData, check_skipped, load_data


@dataclass
class Images:
    """The images of a run.

    Attributes:
        data: The data set, checked.
        train: What is trained on.
        val: What decides on the best epoch; empty: everything is trained on.
        windows: What is cut out of the training images; None: they are seen whole.
        tiles: How images are cut where they are scored; None: not at all.
        groups: The groups of `groups.csv`, by the `id` of their samples.
    """

    data: UsableData
    train: list[Sample]
    val: list[Sample]
    windows: Windows | None = None
    tiles: Tiles | None = None
    groups: dict[int, str] = field(default_factory=dict)

    @property
    def items(self) -> int:
        """What an epoch consists of: images, or windows."""
        return len(self.train if self.windows is None else self.windows)

    @property
    def classes(self) -> ClassTable:
        """The classes of the data."""
        return self.data.classes

    @property
    def test(self) -> list[Sample]:
        """What is scored once, at the end."""
        return list(self.data.source.splits.get("test", ()))

    @property
    def splits(self) -> dict[str, list[Sample]]:
        """What training sees."""
        return {"train": self.train, "val": self.val}


def choose_images(run: Context) -> Images:
    """Reads and checks the data of a run, and divides them.

    Raises:
        InputError: If the data cannot be trained on, a setting does not fit them, or they are not those of the run that
            is resumed.
    """
    config, tell = run.config, run.reporter.message
    data = load_data(config, tell, run.reporter.track)
    source, classes = data.source, data.classes
    check_effects(
        config,
        num_classes=classes.num_classes,
        has_val=bool(source.splits.get("val")),
        volumes=data.source.volume_kinds(),
    )
    if run.checkpoint is not None:
        _check_classes(run, classes)
        check_skipped(run.output, data)
    groups = data.groups()  # also where nothing is held out: images.jsonl names them
    if config.data.folds is not None:
        if config.data.fold is None:
            raise ValueError("a run is one fold: convlora.folds.run trains all of them")
        train, val = fold_images(config, data, tell).train_val(config.data.fold)
    else:
        seed = config.training.seed if config.data.split_seed is None else config.data.split_seed
        train, val = source.train_val(seed, config.data.val_fraction, groups)
    if config.data.train_fraction < 1:
        whole = len(train)
        train = some_of(train, config.data.train_fraction, config.training.seed)
        tell(f"Training on {len(train)} of {whole} images.")
    share = config.data.foreground_share
    if share is not None:
        known, seed = data.values, config.training.seed
        train = leave_out_empty(train, share, classes, values=known, seed=seed, tell=tell, track=run.reporter.track)
    if data.skipped:
        are = "files are" if len(data.skipped) > 1 else "file is"
        tell(f"{len(data.skipped)} {are} left out; {run.output / SKIPPED} says which and why.")
    for note in source.notes:
        tell(note)
    return Images(data, train, val, groups=groups)


def check_resumed_images(run: Context, images: Images) -> None:
    """Refuses to resume a run with other images than it began with.

    Raises:
        InputError: If they have changed.
    """
    if run.checkpoint is not None:
        check_samples(run.output, images.splits, run.reporter.message)


def some_of(samples: Sequence[Sample], fraction: float, seed: int) -> list[Sample]:
    """A share of the samples, at least one, in their order; with the same seed a smaller share is part of a larger."""
    order = np.random.default_rng([seed, 1]).permutation(len(samples))
    chosen = set(order[: max(1, round(fraction * len(samples)))].tolist())
    return [sample for index, sample in enumerate(samples) if index in chosen]


def _check_classes(run: Context, classes: ClassTable) -> None:
    """Refuses to resume a run whose classes have changed."""
    if not (run.output / "classes.json").is_file():
        return
    before = read_classes(run.output)
    if (before.names, before.ignore_index) != (classes.names, classes.ignore_index):
        raise InputError(
            f"The run {run.output} learned the classes {', '.join(before.names)}, but those of the data are now "
            f"{', '.join(classes.names)}. Restore the data, or start a new run with another --output."
        )
