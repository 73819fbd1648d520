"""From decoded masks to class indices and colours, some rows at a time: all at once would take many times the mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from PIL import Image

from convlora.data.reading.colours import colour_values
from convlora.data.reading.depth import stored_grey
from convlora.data.reading.intensities import PIECE
from convlora.errors import InputError

SAVE_MASK = "Save it as an 8-bit or 16-bit PNG of class indices."
_LARGEST_VALUE = 2**24  # of a mask with one channel; numbers from here on stand for colours
_GREY = ("1", "L")
_INDICES = ("P", "I;16", "I;16B", "I;16L", "I;16N")
_NUMBERS = ("I", "F")
_COLOURS = ("RGB", "RGBA")
_WITH_ALPHA = ("LA", "PA")


def values_of(image: Image.Image, depth: int, is_inverted: bool, name: str) -> np.ndarray:
    """The values that the file of a mask holds.

    Args:
        image: The mask as Pillow decodes it, upright.
        depth: Bits of a value in the file.
        is_inverted: Whether 0 is white, for which Pillow turns grey values round.
        name: Name of the file, for messages.

    Returns:
        `(H, W)` integers.

    Raises:
        InputError: They are no class indices or colours.
    """
    mode = image.mode
    if mode not in (*_GREY, *_INDICES, *_NUMBERS, *_COLOURS, *_WITH_ALPHA):
        raise InputError(f"{name} is a mask in the colour space {mode}, but masks must be grey or RGB. {SAVE_MASK}")
    if depth > 8 and len(image.getbands()) > 1:  # Pillow has dropped the lower bytes, in which indices stand
        raise InputError(
            f"{name} is a mask of several channels of {depth} bits. Only the upper 8 bits can be read. {SAVE_MASK}"
        )
    values: np.ndarray | None = None
    step = max(1, PIECE // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        piece = np.asarray(image.crop((0, top, image.width, bottom)))
        if mode in _GREY:
            piece = stored_grey(piece, depth, is_inverted)
        elif mode in _WITH_ALPHA:
            piece = piece[..., 0]
        elif mode in _NUMBERS:
            piece = whole_numbers(piece, name)
        elif mode in _COLOURS:
            piece = colour_values(piece)
        if values is None:
            # A mask in big-endian order would be refused by torch, so it is put into the machine's own order.
            values = np.empty((image.height, image.width), piece.dtype.newbyteorder("="))
        values[top:bottom] = piece
    assert values is not None, "an image has at least one row"  # noqa: S101
    return values


def whole_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Values of any type as class indices, `(H, W)` int32, if they can be such.

    Raises:
        InputError: They cannot.
    """
    numbers = np.empty(values.shape, np.int32)
    for rows in row_pieces(values):
        piece = values[rows]
        if piece.dtype.kind == "f":
            if not np.isfinite(piece).all():
                raise InputError(
                    f"{name} is a mask with NaN or infinite values, but masks must hold class indices. {SAVE_MASK}"
                )
            if not np.array_equal(piece, np.rint(piece)):
                raise InputError(f"{name} is a mask with fractions, but masks must hold class indices. {SAVE_MASK}")
        low, high = float(piece.min()), float(piece.max())
        if low < 0 or high >= _LARGEST_VALUE:
            raise InputError(
                f"{name} is a mask with the value {low if low < 0 else high:.0f}, but class indices lie between 0 and "
                f"65535. {SAVE_MASK}"
            )
        numbers[rows] = piece
    return numbers


def count_values(mask: np.ndarray, most: int) -> Counter[int]:
    """How often each value occurs.

    Args:
        mask: `(H, W)` integers.
        most: Counting stops with more different values than that.
    """
    counts: Counter[int] = Counter()
    for rows in row_pieces(mask):
        if mask.dtype == np.uint8:  # counted without being sorted
            every = np.bincount(mask[rows].ravel(), minlength=256)
            values = np.flatnonzero(every)
            found = every[values]
        else:
            values, found = np.unique(mask[rows], return_counts=True)
        counts.update(dict(zip(values.tolist(), found.tolist(), strict=True)))
        if len(counts) > most:
            break
    return counts


def row_pieces(values: np.ndarray) -> Iterator[slice]:
    """Slices of rows that hold a few million values each."""
    step = max(1, PIECE // max(1, values[:1].size))
    return (slice(top, top + step) for top in range(0, len(values), step))
