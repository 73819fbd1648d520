"""Dividing samples into train, val and test."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from convlora.data.sample import Sample
from convlora.data.sources.belonging import connected
from convlora.data.sources.folder import SPLITS
from convlora.data.sources.opening import ALL
from convlora.errors import InputError
from convlora.untrusted import read_bytes


def divide(
    splits: Mapping[str, Sequence[Sample]],
    shares: tuple[float, float, float] | None,
    seed: int,
    is_stated: bool,
    groups: Mapping[int, str],
) -> tuple[dict[str, list[Sample]], list[str]]:
    """Gives undivided data three splits, and cuts those that are missing from train.

    Images of one group, and images of equal content, stay together, or scores would be too good.

    Args:
        splits: The samples as they came.
        shares: Shares of train, val and test, in any unit; None: everything stays as it is.
        seed: Decides which sample goes where.
        is_stated: Whether the shares were asked for, so that it is an error if they decide nothing.
        groups: Names of groups by the `id` of their samples.

    Returns:
        The splits, and sentences about what was done.

    Raises:
        InputError: The data have all splits already, although shares were asked for.
    """
    there = {split: list(samples) for split, samples in splits.items() if samples}
    if shares is None:
        return there, []
    if ALL in there:
        return _undivided(there, shares, seed, groups)
    share_of = dict(zip(SPLITS, shares, strict=True))
    missing = [split for split in ("val", "test") if split not in there and share_of[split]]
    if is_stated and not missing:
        raise InputError("--split has no effect, because the data come with their splits. Leave it out.")
    if "train" not in there or not missing:
        return there, [] if "train" in there else ["The data have no train split. They keep the splits they have."]
    total = share_of["train"] + sum(share_of[split] for split in missing)
    wanted = {split: share_of[split] / total for split in missing}
    cut, count = _cut(there["train"], wanted, seed, groups), len(there["train"])
    taken = {split: len(cut[split]) for split in missing if cut[split]}
    if not taken:
        return there, [f"There is no {' and no '.join(missing)} split, and train is too small to cut one from it."]
    what = " and ".join(f"{number} for {split}" for split, number in taken.items())
    gaps = " and no ".join(missing)
    note = f"The data have no {gaps} split. Taken from the {count} train samples: {what} (seed {seed})."
    return {split: some for split in SPLITS if (some := cut.get(split) or there.get(split))}, [note]


def _undivided(
    there: dict[str, list[Sample]], shares: tuple[float, float, float], seed: int, groups: Mapping[int, str]
) -> tuple[dict[str, list[Sample]], list[str]]:
    train, val, test = shares
    total = train + val + test
    cut = _cut(there[ALL], {"val": val / total, "test": test / total}, seed, groups)
    parts = " / ".join(f"{100 * share / total:.3g}" for share in shares)
    numbers = ", ".join(f"{len(cut[split])} {split}" for split in SPLITS if cut[split])
    note = (
        "The data have no train, val and test split. "
        f"They are split {parts} percent at random, with seed {seed}: {numbers}."
    )
    return {split: cut[split] for split in SPLITS if cut[split]}, [note]


def _cut(
    samples: Sequence[Sample], fractions: Mapping[str, float], seed: int, groups: Mapping[int, str]
) -> dict[str, list[Sample]]:
    """Divides by chance; train gets the rest, and at least one sample."""
    units = _units(samples, groups)
    order = np.random.default_rng(seed).permutation(len(units)).tolist()
    parts: dict[str, list[int]] = {"train": [], **{split: [] for split in fractions}}
    sizes = {split: _size(fraction, len(samples)) for split, fraction in fractions.items()}
    for number, place in enumerate(order):
        is_last = number == len(order) - 1 and not parts["train"]
        chosen = next((split for split in sizes if len(parts[split]) < sizes[split]), "train")
        parts["train" if is_last else chosen] += units[place]
    return {split: [samples[index] for index in sorted(indices)] for split, indices in parts.items()}


def _size(fraction: float, count: int) -> int:
    return max(1, round(fraction * count)) if fraction else 0


def _units(samples: Sequence[Sample], groups: Mapping[int, str]) -> list[list[int]]:
    """Indices of samples, those of one group and those of equal files together."""
    sizes = Counter(_file_size(sample) for sample in samples)
    keys: list[list[tuple[str, object]]] = []
    for sample in samples:
        own: list[tuple[str, object]] = [("group", groups[id(sample)])] if id(sample) in groups else []
        size = _file_size(sample)
        if size is not None and sizes[size] > 1:
            with contextlib.suppress(OSError):  # said when it is copied
                own.append(("content", hashlib.blake2b(read_bytes(Path(str(sample.image)))).digest()))
        keys.append(own)
    found: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(connected(keys)):
        found[number].append(index)
    return list(found.values())


def _file_size(sample: Sample) -> int | None:
    try:
        return sample.image.stat().st_size if isinstance(sample.image, Path) else None
    except OSError:
        return None
