"""Slices without foreground: most volumes have more of them than a model needs to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from convlora.data.checking.facts import Progress
from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.stored import volume_of
from convlora.data.sample import Sample
from convlora.errors import InputError
from convlora.training.task import Values, class_sizes


def leave_out_empty(
    samples: Sequence[Sample],
    share: float,
    classes: ClassTable,
    *,
    values: Values | None,
    seed: int,
    tell: Callable[[str], None],
    track: Progress = lambda items, _: items,
) -> list[Sample]:
    """Leaves out slices without foreground, at random, until a share of the slices has foreground.

    nnU-Net draws a third of its patches around the foreground for the same reason (Isensee et al., Nature Methods
    2021). Here slices are chosen once, so that an epoch is shorter, too.

    Args:
        samples: What is trained on. Images that are no slices stay.
        share: At least this share of the slices that are left has foreground; above 0, up to 1.
        classes: What the values in the masks mean. With several classes and no background, each is foreground.
        values: What is known of the masks from a check of the data; others are read.
        seed: Decides which slices stay; with the same seed those of a larger share are among those of a smaller one.
        tell: Receives a sentence about what is left out.
        track: Shows progress.

    Returns:
        The samples that stay, in their order.

    Raises:
        InputError: If no slice has foreground, or a mask cannot be read.
    """
    background = 0 if classes.num_classes == 2 else classes.background
    slices = [place for place, sample in enumerate(samples) if volume_of(sample.image) is not None]
    tracked: Iterable[int] = track(slices, "Looking for slices with foreground")
    shown = {place for place in tracked if _has_foreground(class_sizes(samples[place], classes, values), background)}
    empty = [place for place in slices if place not in shown]
    if not shown:
        raise InputError(
            f"None of the {len(slices)} training slices has foreground, so data.foreground_share={share:g} cannot be "
            "reached. Look at the masks with convlora data check."
        )
    most = int(len(shown) * (1 - share) / share + 1e-9)
    if len(empty) <= most:
        tell(f"{len(shown)} of {len(slices)} training slices have foreground. That is enough, and none is left out.")
        return list(samples)
    order = np.random.default_rng([seed, 2]).permutation(len(empty)).tolist()
    left_out = {empty[place] for place in order[most:]}
    tell(
        f"{len(left_out)} of {len(slices)} training slices are left out, because they have no foreground "
        f"(data.foreground_share={share:g}). {len(shown)} slices with foreground and {most} without are trained on."
    )
    return [sample for place, sample in enumerate(samples) if place not in left_out]


def _has_foreground(sizes: np.ndarray, background: int | None) -> bool:
    return bool((sizes if background is None else np.delete(sizes, background)).any())
