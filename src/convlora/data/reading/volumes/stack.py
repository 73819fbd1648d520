"""TIFF files of several pages, each a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from convlora.data.reading.images import open_image, read_header
from convlora.data.reading.tiff.other import OtherTiff
from convlora.data.reading.volumes.volume import Volume, check_number, check_shape
from convlora.errors import InputError

SUFFIXES = (".tif", ".tiff")
_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I", "F", "RGB")


def is_stack(path: Path) -> bool:
    """Whether a file is a TIFF of several pages, as far as it can be read."""
    if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
        return False
    try:
        return read_header(path).pages > 1
    except InputError:  # said when it is read as an image
        return False


def open_stack(path: Path) -> Volume:
    """Opens a TIFF file whose pages are slices of one size; a page is decoded when it is asked for.

    Raises:
        InputError: It cannot be read, or is of a kind whose first page alone is read.
    """
    header = read_header(path)
    check_number(str(path), header.pages)
    check_shape(str(path), (header.pages, *header.size), 0)
    first = _page(path, 0, None)
    return Volume((header.pages, *first.shape[:2]), None, first.dtype, lambda index: _page(path, index, first.shape))


def _page(path: Path, index: int, shape: tuple[int, ...] | None) -> np.ndarray:
    """A page as it is stored: `(H, W)`, or `(H, W, 3)` in colour."""
    with open_image(path) as opened:
        if isinstance(opened, OtherTiff):
            raise InputError(
                f"{path} is a TIFF file of a kind that is read from its first page only. Save its pages as 8-bit or "
                "16-bit grey or as 8-bit RGB."
            )
        try:
            opened.seek(index)
            size = (opened.height, opened.width)
            if shape is not None and size != shape[:2]:
                raise InputError(
                    f"Page {index + 1} of {path} is {size[1]}x{size[0]} pixels, but the first one is "
                    f"{shape[1]}x{shape[0]}. Save pages of one size."
                )
            if opened.mode not in _MODES:
                raise InputError(f"Page {index + 1} of {path} is in the colour space {opened.mode}. Save grey or RGB.")
            found = np.asarray(opened)
        except (EOFError, OSError, ValueError, SyntaxError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"Page {index + 1} of {path} is damaged or missing. Replace the file.") from error
        except Image.DecompressionBombError as error:
            raise InputError(f"Page {index + 1} of {path} is too large. Cut it into tiles.") from error
    found = found.astype(np.uint8) if found.dtype == bool else found.astype(found.dtype.newbyteorder("="))
    if shape is not None and found.shape != shape:
        raise InputError(f"Page {index + 1} of {path} has other channels than the first. Save all pages alike.")
    return found
