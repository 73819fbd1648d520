"""How a volume is cut into slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from convlora.errors import InputError

Axis = Literal["axial", "coronal", "sagittal"]
Pages = Literal["first", "slices"]

DIRECTIONS: dict[str, tuple[str, str, str]] = {
    "axial": ("S", "P", "L"),
    "coronal": ("P", "I", "L"),
    "sagittal": ("L", "I", "P"),
}
"""Where slices, rows and columns go: axial slices go up, their rows to the back and their columns to the left.

So a slice looks as radiologists see it, whatever the order in which a file stores its voxels.
"""


@dataclass(frozen=True)
class Slicing:
    """How a volume is cut into slices, and how their values become intensities.

    Attributes:
        axis: Which slices, of volumes whose place in the body is known.
        neighbours: Whether the slices before and after are the first and third channel.
        value_range: The values that become black and white; None: `data.intensity` decides, for whole volumes.
        pages: Whether the pages of a TIFF file are slices, or only its first page is read.
    """

    axis: Axis = "axial"
    neighbours: bool = False
    value_range: tuple[float, float] | None = None
    pages: Pages = "first"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Slicing:
        """That of the settings of a run; older runs have none of these.

        Raises:
            InputError: If they make no sense.
        """
        given = data.get("value_range")
        axis, pages, neighbours = data.get("axis", "axial"), data.get("pages", "first"), data.get("neighbours", False)
        try:
            value_range = None if given is None else (float(given[0]), float(given[1]))
        except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
            raise InputError(f"data.value_range must be two numbers, got {given!r:.50}.") from error
        if axis not in DIRECTIONS or pages not in ("first", "slices") or not isinstance(neighbours, bool):
            raise InputError("data.axis, data.pages or data.neighbours has a value that cannot be.")
        if value_range is not None and not -math.inf < value_range[0] < value_range[1] < math.inf:
            raise InputError(
                f"data.value_range is [{value_range[0]:g},{value_range[1]:g}], but the first value must be below the "
                "second."
            )
        return cls(axis, neighbours, value_range, pages)

    def described(self) -> str | None:
        """What the images are; None: nothing says that they are slices of volumes."""
        if self == DEFAULT:
            return None
        parts = ["slices of volumes" if self.pages == "slices" else f"{self.axis} slices of volumes"]
        if self.value_range is not None:
            parts.append("values from {:g} (black) to {:g} (white)".format(*self.value_range))
        if self.neighbours:
            parts.append("the slices before and after as red and blue")
        return ", ".join(parts)

    def note_on_images(self) -> str | None:
        """What to say where images are given to a run that reads volumes in this way; None: nothing."""
        if self.value_range is None and not self.neighbours:
            return None
        return (
            "The run was trained on volumes with data.value_range or data.neighbours, which images do not have. Its "
            "results are good for volumes alone."
        )


DEFAULT = Slicing()
