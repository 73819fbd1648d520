"""Warnings about how the masks of a data set are stored."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convlora.data.checking.facts import Facts
from convlora.data.classes.class_table import ClassTable
from convlora.data.problem import Problem
from convlora.data.reading.colours import Colour, is_colour, without_grey

_NEARLY_ALL = 0.9  # of the pixels
_USUALLY_LITTLE = 0.25


def lossy_masks(facts: Sequence[Facts]) -> list[Problem]:
    """Warns once of masks whose compression changes values, even where what is left of them looks like classes."""
    masks = [fact for fact in facts if fact.mask_file]
    lossy = [fact for fact in masks if fact.mask_file and fact.mask_file.is_lossy]
    if not lossy:
        return []
    first = lossy[0].sample.mask
    message = (
        f"{len(lossy)} of {len(masks)} masks are compressed as photographs are, by JPEG or lossy WebP (the first is "
        f"{first}), which blurs edges and turns shapes into blocks. Save masks as PNG, from what they were made of."
    )
    return [Problem("lossy-masks", str(first), message, "warning")]


def different_palettes(facts: Sequence[Facts]) -> list[Problem]:
    """Warns once if an index has one colour in one mask and another colour in another."""
    seen: dict[int, tuple[Colour, Facts]] = {}
    for fact in facts:
        for index, colour in (fact.mask_file.palette if fact.mask_file else {}).items():
            other, before = seen.setdefault(index, (colour, fact))
            if other != colour:
                message = (
                    f"The index {index} is {other} in the palette of {before.sample.mask} and {colour} in that of "
                    f"{fact.sample.mask}. Of palette masks the indices count, not the colours: check that they mean "
                    "the same in all masks, and save them with one palette."
                )
                return [Problem("different-palettes", str(fact.sample.mask), message, "warning")]
    return []


def inverted_masks(classes: ClassTable, facts: Sequence[Facts]) -> list[Problem]:
    """Warns once if what is taken for the foreground fills nearly everything, in all masks or in some.

    Args:
        classes: Classes of a binary task without classes.json, so that only the values say what is foreground.
        facts: Whose masks have been read.
    """
    shares = [(fact, share) for fact in facts if (share := _foreground(classes, fact)) is not None]
    full = [fact for fact, share in shares if share > _NEARLY_ALL]
    if not full:
        return []
    first, typical = full[0].sample.mask, float(np.median([share for _, share in shares]))
    if typical > _NEARLY_ALL:
        message = (
            f"{len(full)} of {len(shares)} masks are nearly all foreground (the first is {first}): the larger of the "
            f"two values is taken for it and has {100 * typical:.1f}% of the pixels of a typical mask. If the smaller "
            f"one is what you look for, {_remedy(classes)}."
        )
    elif typical < _USUALLY_LITTLE:
        message = (
            f"{len(full)} of {len(shares)} masks are nearly all foreground (the first is {first}). A typical mask "
            f"has {100 * typical:.1f}% foreground. If they are inverted, swap their two values."
        )
    else:
        return []
    return [Problem("inverted-masks", str(first), message, "warning")]


def _foreground(classes: ClassTable, fact: Facts) -> float | None:
    """The share of the foreground in a mask, of the pixels that count; None if there are none."""
    labels = classes.encode(np.array(list(fact.values or ()), np.int64), "")
    counts = np.array(list((fact.values or {}).values()))
    total = int(counts[labels != classes.ignore_index].sum())
    return int(counts[labels == 1].sum()) / total if total else None


def _remedy(classes: ClassTable) -> str:
    pairs = {index: value for value, index in classes.label_map or ((0, 0), (1, 1))}
    if any(map(is_colour, pairs.values())):
        return "swap the two colours in the masks"
    example = json.dumps({"classes": list(classes.names), "values": [pairs[1], pairs[0]]})
    return f"swap them in the masks, or say so in classes.json: {example}"


def mixed_masks(classes: ClassTable, facts: Sequence[Facts], root: Path, is_settled: bool) -> list[Problem]:
    """Finds 0/255 masks among 0/1 masks, whose foreground would be ignored.

    They come about where masks that `predict` or `data convert` wrote are put beside masks that were painted white. It
    is an error, because a model that finds nothing could score 1, unless it is settled what 255 means.
    """
    if classes.num_classes != 2 or classes.label_map is not None or classes.ignore_index != 255:
        return []
    value_sets = [(fact, without_grey(fact.values)) for fact in facts if fact.values]
    # A mask with all three values shows that 255 is meant as the ignore value.
    if any({1, 255} <= values for _, values in value_sets):
        return []
    bright = [fact for fact, values in value_sets if 255 in values]
    if not bright:
        return []
    message = (
        f"{len(bright)} of {len(value_sets)} masks of {root} are 0/255 (the first is {bright[0].sample.mask}) "
        "and the others 0/1, so that 255 is ignored. If it is foreground, make all masks alike (convlora data convert "
        f"{shlex.quote(str(root))} --output NEW --threshold 1)"
    )
    if is_settled or not any(0 in values for _, values in value_sets if 255 in values):
        return [Problem("mixed-masks", str(bright[0].sample.mask), f"{message}.", "warning")]
    message += '. If it is to be ignored, say so in classes.json: {"classes": [...], "ignore_index": 255}.'
    return [Problem("mixed-masks", str(bright[0].sample.mask), message)]
