"""Scores of the volumes whose slices are scored one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.volumes.slices import VolumeSlice
from convlora.data.sample import Sample
from convlora.metrics.volumes import volume_scores


class VolumeScores:
    """Collects slices and scores a volume once it is complete, so that one volume at a time is in memory.

    Args:
        classes: What the labels mean. The background is not scored.
    """

    def __init__(self, classes: ClassTable) -> None:
        self._classes = classes
        self._each: list[dict[str, Any]] = []
        self._slices: list[tuple[VolumeSlice, np.ndarray, np.ndarray]] = []

    def update(self, sample: Sample, predicted: np.ndarray, labels: np.ndarray) -> None:
        """Takes in an image; one that is no slice is passed over.

        Args:
            sample: The image.
            predicted: Class indices, (H, W).
            labels: Likewise.
        """
        image = sample.image
        if self._slices and not (isinstance(image, VolumeSlice) and image.stored == self._slices[-1][0].stored):
            self._finish()
        if isinstance(image, VolumeSlice):
            small = np.uint8 if max(self._classes.num_classes - 1, self._classes.ignore_index) < 256 else np.int32
            self._slices.append((image, predicted.astype(small), labels.astype(small)))

    def state_dict(self) -> list[dict[str, Any]]:
        """The scores of the volumes that were collected."""
        self._finish()
        return list(self._each)

    def merge(self, other_state: list[dict[str, Any]]) -> None:
        """Adds the volumes that another one collected."""
        self._finish()
        self._each += other_state

    def compute(self) -> dict[str, Any] | None:
        """The scores; None if there were no volumes.

        Returns:
            `each`, with `volume`, `path`, `slices` of those scored, `spacing` in mm or None, and for each class `dice`
            and `hd95` (in mm; without a spacing in voxels); and their means by class over the volumes that have them.
        """
        self._finish()
        if not self._each:
            return None
        mean = {
            name: {score: _mean([one["classes"][name][score] for one in self._each]) for score in ("dice", "hd95")}
            for name in self._each[0]["classes"]
        }
        units = {one["unit"] for one in self._each}
        return {
            "num_volumes": len(self._each),
            "dice": _mean([scores["dice"] for scores in mean.values()]),
            "hd95": _mean([scores["hd95"] for scores in mean.values()]) if len(units) == 1 else None,
            "unit": units.pop() if len(units) == 1 else "mixed",
            "classes": mean,
            "each": self._each,
        }

    def _finish(self) -> None:
        if not self._slices:
            return
        first = self._slices[0][0]
        spacing = first.stored.open().spacing
        predicted, labels = (np.stack([one[place] for one in self._slices]) for place in (1, 2))  # type: ignore[misc]
        background = self._classes.background
        indices = [index for index in range(self._classes.num_classes) if index != background]
        found = volume_scores(predicted, labels, indices, self._classes.ignore_index, spacing or (1.0, 1.0, 1.0))
        self._each.append(
            {
                "volume": first.volume,
                "path": str(first.stored.path),
                "slices": len(self._slices),
                "spacing": None if spacing is None else list(spacing),
                "unit": "voxels" if spacing is None else "mm",
                "classes": {self._classes.names[index]: scores._asdict() for index, scores in found.items()},
            }
        )
        self._slices = []


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
