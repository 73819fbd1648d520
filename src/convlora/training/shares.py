"""Sharing what is scored among the processes that train together."""

from __future__ import annotations

from collections.abc import Sequence

from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.slices import VolumeSlice
from convlora.data.sample import Sample


def shares_of(samples: Sequence[Sample], processes: int) -> list[list[Sample]]:
    """Deals samples out in turn. The slices of a volume go to one process, because the volume is scored as a whole.

    Args:
        samples: What is scored; the slices of a volume follow one another.
        processes: How many there are.

    Returns:
        The samples of each process, in their order.
    """
    shares: list[list[Sample]] = [[] for _ in range(processes)]
    places: dict[int | Stored, int] = {}
    for number, sample in enumerate(samples):
        unit = sample.image.stored if isinstance(sample.image, VolumeSlice) else number
        shares[places.setdefault(unit, len(places)) % processes].append(sample)
    return shares
