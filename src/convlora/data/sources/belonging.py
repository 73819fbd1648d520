"""Which samples must stay together when they are divided."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def connected(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """Numbers samples so that those with a key in common, directly or by way of others, have the same number.

    Args:
        keys: What each sample shares with others, such as a group, a volume or its content.

    Returns:
        A number for each sample, counted from 0 in the order in which they appear.
    """
    parents = list(range(len(keys)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    first: dict[Hashable, int] = {}
    for place, own in enumerate(keys):
        for key in own:
            parents[root(place)] = root(first.setdefault(key, place))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(place), len(numbers)) for place in range(len(keys))]
