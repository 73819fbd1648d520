"""What the tags of a TIFF file say about its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

BITS, PHOTOMETRIC = 258, 262
_ORIENTATION, _NO_DATA = 274, 42113


def tags_of(image: Image.Image) -> Mapping[int, Any]:
    """The tags of an open image, each decoded when asked for; none if it is no TIFF file."""
    return image.tag_v2 if isinstance(image, TiffImageFile) else {}


def bits(tags: Mapping[int, Any]) -> int:
    """Bits of a value."""
    stated = tags.get(BITS, 8)
    return int(stated[0] if isinstance(stated, tuple) else stated)


def zero_is_white(tags: Mapping[int, Any]) -> bool:
    """Whether grey values grow towards black, which decoders turn round."""
    return tags.get(PHOTOMETRIC) == 0


def orientation(tags: Mapping[int, Any]) -> int:
    """How the pixels are turned and mirrored, by the numbers of EXIF."""
    stated = tags.get(_ORIENTATION, 1)
    return stated if isinstance(stated, int) else 1


def states_no_data(tags: Mapping[int, Any]) -> bool:
    """Whether a file says something about pixels without data, be it readable or not."""
    return _NO_DATA in tags


def no_data_value(tags: Mapping[int, Any]) -> float | None:
    """The value of pixels without data, which geographic programs write as a text.

    A text that is no number is no value. (GDAL would take it for 0, and so would make black pixels disappear.)
    """
    text = tags.get(_NO_DATA)
    if not isinstance(text, str) or "_" in text:  # Python alone reads 1_000 as a number
        return None
    try:
        return float(text.strip("\0 \t\r\n"))
    except ValueError:
        return None
