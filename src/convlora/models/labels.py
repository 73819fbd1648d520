"""How many classes a configuration has, and what they are called, under the names that transformers uses."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

COUNTS = ("num_classes", "num_labels")  # two names for one number
KEYS = (*COUNTS, "id2label", "label2id")


def take_names(settings: MutableMapping[str, Any], now: Mapping[int, str] | None = None) -> dict[int, str] | None:
    """Takes what settings say of the classes out of them.

    Args:
        settings: May hold `num_classes` or `num_labels`, and `id2label` or `label2id`.
        now: Names that are kept where only a number is given, and it is theirs.

    Returns:
        The name of each class; None if nothing is said of them.

    Raises:
        ValueError: If two settings contradict each other, or a number is none.
    """
    counts = {key: count for key in COUNTS if (count := settings.pop(key, None)) is not None}
    names, numbers = settings.pop("id2label", None), settings.pop("label2id", None)
    if names is None and numbers is not None:
        names = {number: name for name, number in numbers.items()}
    if names is not None:
        names = {int(number): str(name) for number, name in names.items()}
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"id2label must name the classes 0, 1, 2, ..., got {sorted(names)}")
        if not _are_numbers(names):  # those are made up by transformers, and follow the number
            counts["id2label"] = len(names)
    for key, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool):
            raise ValueError(f"{key} must be a whole number, got {count!r}")
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{key} says {count}" for key, count in counts.items())
        raise ValueError(f"there is no telling how many classes there are: {told}. Give one of them.")
    if not counts:
        return names
    (count,) = set(counts.values())
    kept = next((known for known in (names, now) if known is not None and len(known) == count), None)
    return dict(kept) if kept is not None else {number: f"LABEL_{number}" for number in range(count)}


def _are_numbers(names: Mapping[int, str]) -> bool:
    return all(name == f"LABEL_{number}" for number, name in names.items())
