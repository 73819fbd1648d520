"""How long the sides of a pixel are, as people write it: `0.5um`, `2 mm`, `0.5x0.6um`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from convlora.errors import InputError, shown

UNITS = ("nm", "um", "mm", "cm", "m", "km")
_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_FORM = re.compile(rf"\s*{_NUMBER}\s*(?:[x×]\s*{_NUMBER}\s*)?([a-zµμ]+)\s*")  # noqa: RUF001 - micro sign and mu


@dataclass(frozen=True)
class PixelSize:
    """The size of a pixel.

    Attributes:
        height: In units.
        width: In units.
        unit: One of `UNITS`.
    """

    height: float
    width: float
    unit: str

    @classmethod
    def parse(cls, text: object) -> PixelSize:
        """Reads a length and its unit, or the height and the width of a pixel and their unit.

        Raises:
            InputError: If it is neither, or no length above 0.
        """
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        unit = found[3].replace("µ", "u").replace("μ", "u") if found else ""
        if found is None or unit not in UNITS:
            raise InputError(
                f"--pixel-size must be a length with its unit ({', '.join(UNITS)}), such as 0.5um, or height x width, "
                f"such as 0.5x0.6um, got '{shown(text, 40)}'."
            )
        height, width = float(found[1]), float(found[2] or found[1])
        if not all(0 < side < math.inf for side in (height, width)):
            raise InputError(f"--pixel-size must be above 0, got '{shown(text, 40)}'.")
        return cls(height, width, unit)
