"""What a comparison says in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from convlora.comparison.bootstrap import paired_difference
from convlora.metrics.labels import short_label

FEWEST_IMAGES = 10  # with fewer, drawing them again says little about others
_MOST_DIGITS = 4

Images = Mapping[str, Sequence[Sequence[dict[str, Any]]]]


def compare_with_best(rows: Sequence[Mapping[str, Any]], images: Images, score: str) -> dict[str, Any]:
    """Compares the method with the highest mean score with each of the others.

    Args:
        rows: The methods of a summary that were trained on the same share of the images.
        images: For each method the records of the images by seed, see
            [`convlora.comparison.bootstrap.paired_difference`].
        score: The score.

    Returns:
        `best`, its name; and `others`, the nearest first: `method`, `mean`, `low` and `high` of the difference, and in
        how many `seeds` the best was `ahead`.
    """
    ordered = sorted(rows, key=lambda row: -row["mean"][score])
    best, others = ordered[0], []
    for row in ordered[1:]:
        difference = paired_difference(images[best["method"]], images[row["method"]], score)
        pairs = [(one[score], row["seeds"][seed][score]) for seed, one in best["seeds"].items() if seed in row["seeds"]]
        ahead = sum(ours > theirs for ours, theirs in pairs)
        others.append({"method": row["method"], **difference._asdict(), "ahead": ahead, "seeds": len(pairs)})
    return {"best": best["method"], "others": others}


def drawn_units(summary: Mapping[str, Any]) -> tuple[int, str]:
    """What the intervals of a summary are drawn over: how many there are, and `"group"`, `"volume"` or `"image"`."""
    counts = ((summary.get(f"{noun}s"), noun) for noun in ("group", "volume"))
    return next(((count, noun) for count, noun in counts if count is not None), (summary["images"], "image"))


def verdict(summary: Mapping[str, Any]) -> list[str]:
    """The result of a comparison in a few sentences, the main one first.

    Args:
        summary: The content of `compare.json`.
    """
    found, label = summary["verdict"], short_label(summary["score"])
    others: list[dict[str, Any]] = found["others"]
    best, (count, noun) = found["best"], drawn_units(summary)
    if not others:
        return [f"Only {best} was trained, so there is nothing to compare it with."]
    if count < FEWEST_IMAGES:
        there_are = f"{count} {noun}{' is' if count == 1 else 's are'}"
        return [f"No winner: {there_are} too few to tell. Compare on at least {FEWEST_IMAGES} {noun}s."]
    seeds = f"{others[0]['seeds']} seed{'s' if others[0]['seeds'] != 1 else ''}"
    level = [one for one in others if one["low"] <= 0]
    behind = [one for one in others if one["low"] > 0]
    first = (level or behind)[0]
    where = f"{interval_text(first)}, {count} {noun}s, {seeds}"
    if level:
        names = listed([one["method"] for one in level])
        sentences = [
            f"No clear winner: {best} has the highest {label}, but {names} may be as good.",
            f"{best} is ahead of {first['method']} by {number_text(first['mean'], first)} {label} ({where}).",
        ]
        if behind:
            sentences.append(f"{best} is better than {listed([one['method'] for one in behind])}.")
    else:
        sentences = [
            f"{best} is better than {first['method']} by {number_text(first['mean'], first)} {label} ({where})."
        ]
        if len(behind) > 1:
            sentences.append(f"It is also better than {listed([one['method'] for one in behind[1:]])}.")
        if 1 < first["seeds"] > first["ahead"]:
            sentences.append(f"But it was ahead in {first['ahead']} of {first['seeds']} seeds only.")
    if first["seeds"] == 1:
        sentences.append("This is from one seed. Another seed could change the order: give --seeds 3.")
    return sentences


def interval_text(difference: Mapping[str, float]) -> str:
    """The interval of a difference, with the decimals that it supports."""
    return f"interval {number_text(difference['low'], difference)} to {number_text(difference['high'], difference)}"


def number_text(value: float, difference: Mapping[str, float]) -> str:
    """A number with as many decimals as the interval of a difference supports."""
    text = f"{value:.{digits_for(difference)}f}"
    return text.lstrip("-") if float(text) == 0 else text


def digits_for(difference: Mapping[str, float]) -> int:
    """How many decimals the interval of a difference supports.

    A step of the last decimal is a quarter to a fortieth of the interval: 0.01 to 0.05 has two decimals, 0.01 to 0.03
    three.
    There is one more where an end would be rounded to zero, and it could no longer be seen on which side of zero it is.
    """
    half = (difference["high"] - difference["low"]) / 2
    digits = min(_MOST_DIGITS, max(1, math.ceil(-math.log10(half / 2) - 1e-9))) if half > 0 else _MOST_DIGITS
    if difference["low"] > 0 or difference["high"] < 0:
        nearest = min(abs(difference["low"]), abs(difference["high"]))
        while digits < _MOST_DIGITS and round(nearest, digits) == 0:
            digits += 1
    return digits


def listed(names: Sequence[str]) -> str:
    """Names as a sentence holds them: `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
