"""What the file of a mask tells about it beside its values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from convlora.data.reading.colours import Colour
from convlora.data.reading.images import open_image
from convlora.data.reading.signatures import is_lossy_webp
from convlora.data.reading.stored import ImageSource, content_of
from convlora.data.reading.tiff.other import OtherTiff

_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_LOSSY_COMPRESSION = (6, 7, 34892, 50001)


@dataclass(frozen=True)
class MaskFile:
    """How a mask is stored.

    Args:
        is_lossy: Whether its compression changes values.
        palette: The colour of each index that is used, if it has a palette.
    """

    is_lossy: bool = False
    palette: dict[int, Colour] = field(default_factory=dict)


def read_mask_file(source: ImageSource, used: Iterable[int]) -> MaskFile:
    """Looks at a mask that can be read.

    Args:
        source: Source of the mask.
        used: The values it holds.

    Raises:
        InputError: It cannot be read after all.
    """
    with open_image(source) as opened:
        if isinstance(opened, OtherTiff):
            return MaskFile(opened.layout.compression in _LOSSY_COMPRESSION, _used(opened.layout.palette, used))
        return MaskFile(_is_lossy(opened, source), _palette(opened, used))


def _is_lossy(opened: Image.Image, source: ImageSource) -> bool:
    if opened.format == "WEBP":
        return is_lossy_webp(content_of(source))
    if opened.format == "TIFF":
        return opened.info.get("compression") in _LOSSY_TIFF
    return opened.format in ("JPEG", "MPO")


def _palette(opened: Image.Image, used: Iterable[int]) -> dict[int, Colour]:
    if opened.mode not in ("P", "PA"):
        return {}
    return _used(np.reshape(opened.getpalette("RGB") or [], (-1, 3)), used)


def _used(palette: np.ndarray | None, used: Iterable[int]) -> dict[int, Colour]:
    colours = [] if palette is None else palette.astype(int).tolist()
    return {index: (*colours[index],) for index in sorted(used) if index < len(colours)}
