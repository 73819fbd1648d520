"""What is told of the volumes of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.slices import VolumeSlice
from convlora.data.sample import Sample


@dataclass(frozen=True)
class VolumeFacts:
    """A volume whose slices are samples.

    Attributes:
        name: What it is called.
        path: A file, or the folder of a DICOM series.
        shape: (slices, height, width).
        spacing: Between slices, rows and columns in millimetres; None: unknown.
    """

    name: str
    path: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "shape": list(self.shape), "spacing": None if not self.spacing else list(self.spacing)}


def volumes_of(splits: Mapping[str, Sequence[Sample]]) -> dict[str, list[VolumeFacts]]:
    """The volumes of each split; empty without any.

    Raises:
        InputError: If the header of one can no longer be read.
    """
    found: dict[str, list[VolumeFacts]] = {}
    for split, samples in splits.items():
        volumes: dict[Stored, VolumeSlice] = {}
        for sample in samples:
            if isinstance(sample.image, VolumeSlice):
                volumes.setdefault(sample.image.stored, sample.image)
        if volumes:
            found[split] = [
                VolumeFacts(one.volume, str(stored.path), one.shape, stored.facts().spacing)
                for stored, one in volumes.items()
            ]
    return found
