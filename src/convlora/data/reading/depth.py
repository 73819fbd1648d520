"""How many bits of a value a file holds, whatever the decoder makes of them."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from convlora.data.reading.tiff.tags import bits, tags_of


def depth_of(opened: Image.Image) -> int:
    """Bits of a value of one channel in a file.

    Args:
        opened: The file, not decoded yet; of a decoded PNG file 8 bits are assumed.

    Returns:
        8 for formats that have no other depth.
    """
    if opened.format == "PNG" and opened.tile:  # type: ignore[attr-defined]
        # What is still to decode: the layout of the header as `L`, `L;2`, `RGB;16B` and the like.
        found = re.search(r";(\d+)", str(opened.tile[0][3]))  # type: ignore[attr-defined]
        return int(found[1]) if found else 8
    return bits(tags_of(opened))


def stored_grey(decoded: np.ndarray, depth: int, is_inverted: bool = False) -> np.ndarray:
    """The grey values that a file holds, where Pillow has spread those of 2 or 4 bits over 0 to 255.

    Args:
        decoded: Booleans of 1 bit, or uint8.
        depth: Bits of a value.
        is_inverted: Whether 0 is white.
    """
    if decoded.dtype == bool:
        decoded, depth = decoded.astype(np.uint8) * 255, 1
    if is_inverted:
        decoded = 255 - decoded
    return decoded // (255 // (2**depth - 1)) if depth < 8 else decoded
