"""What a check says of the groups that images are in."""

from __future__ import annotations

from collections import defaultdict

from convlora.data.problem import Problem
from convlora.data.reading.stored import volume_of
from convlora.data.sources.groups import GROUPS, read_groups
from convlora.data.sources.opening import DataSource
from convlora.errors import InputError, shown

_NEARLY_ALL = 0.8  # of the images that are held out in turn


def group_problems(source: DataSource) -> list[Problem]:
    """Reads `groups.csv`, where there is one, and says what speaks against it.

    Args:
        source: The data set, with all samples that are paired.

    Returns:
        An error if `train` would refuse the file. Warnings of images without a row, of groups with images in
        several splits, and of a group that holds nearly all images.
    """
    folder = source.root if source.root.is_dir() else source.root.parent
    path = str(folder / GROUPS)
    try:
        groups = read_groups(source, source.splits, [problem.path for problem in source.problems])
    except InputError as error:
        return [Problem("groups", path, str(error))]
    if not groups:
        return []
    splits_of: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))  # images of a group by split
    alone, count, folded = [], 0, 0
    for split, samples in source.splits.items():
        for sample in samples:
            count, folded = count + 1, folded + (split != "test")
            if id(sample) in groups:
                splits_of[groups[id(sample)]][split] += 1
            elif volume_of(sample.image) is None:  # a volume is a group without being named
                alone.append(sample.image)
    messages = [*_spread(splits_of), *_dominant(splits_of, folded)]
    if alone:
        of_all = f"{len(alone):,} of {count:,} images have no row (the first is {alone[0]})"
        messages.append(f"{of_all}. Each of them is taken for a group of its own. Add rows if they belong to others.")
    return [Problem("groups", path, f"{path}: {message}", "warning") for message in messages]


def _spread(splits_of: dict[str, dict[str, int]]) -> list[str]:
    """Warns of groups that are trained on and tested with, and of those that are trained on and validated with."""
    messages = []
    for other, remedy in (
        ("test", "Move all images of a group into one split."),
        ("val", "Move all images of a group into one split, or train with --folds, which keeps groups together."),
    ):
        trained = ("train", "val") if other == "test" else ("train",)
        found = [
            name for name, splits in splits_of.items() if other in splits and any(one in splits for one in trained)
        ]
        if found:
            one = next(split for split in trained if split in splits_of[found[0]])
            more = f", and so do {len(found) - 1:,} more groups" if len(found) > 1 else ""
            messages.append(
                f"The group {shown(found[0])} has images in {one} and in {other}{more}. Images of a group are alike, "
                f"so the scores of {other} will be too good. {remedy}"
            )
    return messages


def _dominant(splits_of: dict[str, dict[str, int]], folded: int) -> list[str]:
    """Warns of a group that holds nearly all images that folds are made of."""
    sizes = {name: sum(n for split, n in splits.items() if split != "test") for name, splits in splits_of.items()}
    name = max(sizes, key=lambda one: sizes[one])
    if folded < 2 or sizes[name] < _NEARLY_ALL * folded:
        return []
    return [
        f"The group {shown(name)} holds {sizes[name]:,} of the {folded:,} images of train and val, and a group is held "
        "out as a whole, so the folds of --folds will differ much in size. Check the column group."
    ]
