"""Dividing the images of a data set into folds for cross-validation."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from convlora.data.reading.stored import content_of, volume_of
from convlora.data.sample import Sample
from convlora.data.sources.belonging import connected
from convlora.data.sources.groups import GROUPS
from convlora.errors import InputError, shown
from convlora.training.config import RunConfig
from convlora.training.task import class_sizes
from convlora.training.usable_data import UsableData

_SHARES = 3  # of images with foreground, by how much they have


@dataclass(frozen=True)
class FoldedSample:
    """An image that is held out once.

    Attributes:
        sample: The image; its name is unique in the whole.
        split: The split it comes from.
        group: Name of its group in `groups.csv`, or of the volume that it is a slice of; empty: it has none.
        unit: The number of what it must not be parted from: its group, and images of the same content.
        fold: The fold in which it is held out.
    """

    sample: Sample
    split: str
    group: str
    unit: int
    fold: int


@dataclass(frozen=True)
class Folding:
    """A data set in folds.

    Attributes:
        images: All images of train and val, in their order.
        tested: The group of each test image that has one, by its name; of a slice, at least its volume.
    """

    images: tuple[FoldedSample, ...]
    tested: dict[str, str]

    @property
    def has_groups(self) -> bool:
        """Whether some images belong together."""
        return len({one.unit for one in self.images}) < len(self.images)

    def train_val(self, fold: int) -> tuple[list[Sample], list[Sample]]:
        """What a fold trains on, and what it holds out, each in the order of the data."""
        train = [one.sample for one in self.images if one.fold != fold]
        return train, [one.sample for one in self.images if one.fold == fold]


def fold_images(config: RunConfig, data: UsableData, tell: Callable[[str], None]) -> Folding:
    """Divides what may be trained on into `data.folds` parts.

    Images of one group of `groups.csv`, and images of the same content, are never parted. The folds get about as many
    images each. Where all masks were read, they are alike in the rarest class of an image, or, with two classes, in
    the share of the foreground.

    Args:
        config: The settings.
        data: The data set.
        tell: Receives sentences for the user.

    Raises:
        InputError: If there are fewer groups than folds, or `groups.csv` is wrong.

    Source: The parts are those of scikit-learn's `StratifiedGroupKFold`.
    """
    if config.data.folds is None:
        raise ValueError("no folds are asked for")
    pooled = data.source.pooled()
    originals = [sample for split in dict.fromkeys(split for split, _ in pooled) for sample in data.source.split(split)]
    groups = data.groups()
    volumes = [_volume(split, one) for (split, _), one in zip(pooled, originals, strict=True)]
    named = [groups.get(id(one)) or volume for one, volume in zip(originals, volumes, strict=True)]
    units = _units(originals, named, volumes, tell)
    labels = _labels(originals, data)
    count, seed = config.data.folds, config.training.seed if config.data.split_seed is None else config.data.split_seed
    if len(set(units)) < count:
        raise InputError(_too_few(count, len(originals), len(set(units)), str(data.source.root)))
    folds = assign(units, labels, count, seed)
    for old, (_, new) in zip(originals, pooled, strict=True):
        if new is not old and id(old) in data.values:
            data.values[id(new)] = data.values[id(old)]
    test = {one.name: groups.get(id(one)) or _volume("test", one) for one in data.source.splits.get("test", ())}
    tested = {name: group for name, group in test.items() if group}
    if both := sorted(set(tested.values()) & set(named)):
        more = f", and so do {len(both) - 1} more groups" if len(both) > 1 else ""
        tell(f"Warning: The group {shown(both[0])} has test images, too{more}, so test scores may be too good.")
    return Folding(
        tuple(
            FoldedSample(sample, split, group, unit, fold)
            for (split, sample), group, unit, fold in zip(pooled, named, units, folds, strict=True)
        ),
        tested,
    )


def assign(units: Sequence[int], labels: Sequence[int], folds: int, seed: int) -> list[int]:
    """The fold of each image; no unit is parted, and no fold is empty.

    Args:
        units: The unit of each image, at least as many as folds.
        labels: What the folds should be alike in.
        folds: Number of folds.
        seed: The same one always gives the same folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    common = max(np.bincount(np.asarray(labels)))
    for wanted in (labels, [0] * len(units)) if common >= folds else ([0] * len(units),):
        found = [-1] * len(units)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a rare label cannot be in every fold
            for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(units)), wanted, units)):
                for place in held_out.tolist():
                    found[place] = fold
        if set(found) == set(range(folds)):
            return found
    raise RuntimeError("a fold is empty")  # groups of one label each go where there is least


def _volume(split: str, sample: Sample) -> str:
    """The volume that an image is a slice of, with its split, as two may name theirs alike; empty: it is no slice."""
    volume = volume_of(sample.image)
    return f"{split}/{volume}" if volume else ""


def _units(
    samples: Sequence[Sample], groups: Sequence[str], volumes: Sequence[str], tell: Callable[[str], None]
) -> list[int]:
    """Numbers of what must stay together: connected by a group, by a volume, or by equal content."""
    contents = [hashlib.blake2b(content_of(sample.image), digest_size=16).hexdigest() for sample in samples]
    copies = len(contents) - len(set(contents))
    if copies:
        images = "image is a copy of another one" if copies == 1 else "images are copies of others"
        tell(f"{copies} {images} and {'stays' if copies == 1 else 'stay'} in the same fold.")
    kinds = ("content", "group", "volume")
    return connected(
        [
            [(kind, name) for kind, name in zip(kinds, names, strict=True) if name]
            for names in zip(contents, groups, volumes, strict=True)
        ]
    )


def _labels(samples: Sequence[Sample], data: UsableData) -> list[int]:
    """What folds should be alike in; the same for all where the masks were not read."""
    if any(id(sample) not in data.values for sample in samples):
        return [0] * len(samples)
    sizes = np.array([class_sizes(sample, data.classes, data.values) for sample in samples])
    if data.classes.num_classes > 2:
        present = sizes > 0
        rarity = np.where(present, present.sum(axis=0), len(samples) + 1)
        return np.where(present.any(axis=1), rarity.argmin(axis=1) + 1, 0).tolist()
    shares = sizes[:, 1] / np.maximum(sizes.sum(axis=1), 1)
    labels = np.zeros(len(samples), dtype=int)
    shown_ones = np.flatnonzero(shares > 0)
    order = shown_ones[np.argsort(shares[shown_ones], kind="stable")]
    labels[order] = 1 + np.arange(len(order)) * _SHARES // max(len(order), 1)
    return labels.tolist()


def _too_few(folds: int, images: int, units: int, data: str) -> str:
    if units == images:
        return f"--folds is {folds}, but {data} has only {images} images to hold out. Give fewer folds."
    return (
        f"--folds is {folds}, but the {images} images of {data} make only {units} groups ({GROUPS}, and images of the "
        "same content), which stay together. Give fewer folds."
    )
