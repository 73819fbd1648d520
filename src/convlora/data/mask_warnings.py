"""Warnings about how the masks of a data set are stored."""

from __future__ import annotations

from collections.abc import Sequence

from convlora.data.colours import Colour
from convlora.data.facts import Facts
from convlora.data.problem import Problem


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
