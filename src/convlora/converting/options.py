"""What a user may choose when data are converted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from convlora.data.sources.formats.found import Reading
from convlora.data.sources.formats.recognise import BY_NAME
from convlora.errors import InputError, shown

AUTO = "auto"
NONE = "none"
# What the reader of all data sets reads without a reader among the forms.
OWN = ("coco", "folder")
_FOREGROUND, _BORDER = "foreground", "border"
_USUAL = (70.0, 15.0, 15.0)


def format_names() -> tuple[str, ...]:
    """The names that `--format` knows, without auto."""
    return (*OWN, *BY_NAME)


@dataclass(frozen=True)
class Options:
    """Checked choices.

    Args:
        format: Name of a form, or `"auto"`.
        reading: For its reader.
        instances: Whether the user chose what numbered objects become.
        threshold: Grey value from which on a pixel is foreground; None: masks hold classes.
        shares: Shares of train, val and test, as far as they are missing; None: nothing is divided.
        is_stated: Whether the user stated the shares.
        seed: Decides which sample goes where.
    """

    format: str
    reading: Reading
    instances: bool
    threshold: int | None
    shares: tuple[float, float, float] | None
    is_stated: bool
    seed: int

    @classmethod
    def checked(
        cls,
        format: str = AUTO,
        suffix: str | None = None,
        threshold: int | None = None,
        instances: str | None = None,
        split: str = AUTO,
        seed: int = 0,
    ) -> Options:
        """Checks what was given.

        Raises:
            InputError: A value is none of those that there are.
        """
        if format != AUTO and format not in format_names():
            raise InputError(f"--format must be one of auto, {', '.join(format_names())}, got '{shown(format)}'.")
        if instances not in (None, _FOREGROUND, _BORDER):
            raise InputError(f"--instances must be {_FOREGROUND} or {_BORDER}, got '{shown(instances)}'.")
        if threshold is not None and not (isinstance(threshold, int) and 1 <= threshold <= 255):
            raise InputError(f"--threshold is a grey value from 1 to 255, got {shown(threshold)}.")
        if suffix is not None and (not suffix or "/" in suffix or "\\" in suffix):
            raise InputError(f"--suffix is what masks have behind the names of their images, got '{shown(suffix)}'.")
        if suffix is not None and format not in (AUTO, "pairs", "instances"):
            raise InputError(f"--suffix is for pairs of files side by side, and --format {format} has none. Leave it.")
        if instances is not None and format not in (AUTO, "instances"):
            raise InputError(f"--instances is for masks of numbered objects, not for --format {format}. Leave it out.")
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InputError(f"--seed must be a whole number from 0 to {2**32 - 1}, got {shown(seed)}.")
        reading = Reading(suffix, instances or _FOREGROUND)
        return cls(format, reading, instances is not None, threshold, _shares(split), split not in (AUTO, NONE), seed)


def _shares(split: str) -> tuple[float, float, float] | None:
    if split == AUTO:
        return _USUAL
    if split == NONE:
        return None
    parts = split.split("/") if re.fullmatch(r"\d{1,4}(\.\d+)?(/\d{1,4}(\.\d+)?){1,2}", str(split)) else []
    train, val, test = (float(part) for part in (*parts, "0")[:3]) if parts else (0.0, 0.0, 0.0)
    if not train:
        raise InputError(
            f"--split must be auto, none, or shares of train, val and test such as 80/10/10, got '{shown(split)}'."
        )
    return train, val, test
