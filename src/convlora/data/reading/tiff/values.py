"""From the values of a TIFF file, as they are stored, to 8-bit RGB: one meaning for both decoders.

The rules are those of `convlora.data.reading.images.read_image`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from convlora.data.reading.intensities import PIECE, Intensity, Scale, scale_of, scaled
from convlora.data.reading.no_data import known_pixels, missing_values
from convlora.data.reading.tiff.layout import TiffLayout

# Values `(channels, rows, width)` and, if the file has a mask of its own, which pixels it says hold data.
Native = tuple[np.ndarray, np.ndarray | None]


class TiffValues:
    """What the values of a file mean.

    Args:
        layout: Layout of the file.
        no_data: The value of pixels without data.
        intensity: How values become 8 bits.
        name: The file, for messages.

    Attributes:
        channels: Which channels are to be read, counted from 0, in this order: those that count, then alpha.
        scale: How values become 8 bits, as [`TiffValues.find_scale`] found; None: they are 8 bits, or it is not found.
    """

    def __init__(self, layout: TiffLayout, no_data: float | None, intensity: Intensity, name: str) -> None:
        self._layout, self._no_data, self._intensity, self._name = layout, no_data, intensity, name
        self._colours = len(layout.colours)
        self.channels = (*layout.colours, *(() if layout.alpha is None else (layout.alpha,)))
        kind = layout.dtype
        # Alpha that colours were multiplied by is undone in 8 bits.
        self._undo_alpha = layout.is_premultiplied and kind in (np.uint8, np.uint16)
        # Pillow reads 16-bit colours by their upper byte, of whatever format.
        self._upper_byte = kind == np.uint16 and (self._colours == 3 or self._undo_alpha)
        self._is_deep = kind != np.uint8 and layout.palette is None and not self._upper_byte
        self.scale: Scale | None = None

    @property
    def may_lack_data(self) -> bool:
        """Whether the values say where there is data."""
        return self._no_data is not None or self._layout.alpha is not None

    @property
    def decides_on_all(self) -> bool:
        """Whether [`TiffValues.find_scale`] has to be called before anything is converted."""
        return self._is_deep or self._intensity == "image"

    def find_scale(self, pieces: Iterable[Native]) -> None:
        """Finds out how values become 8 bits.

        Args:
            pieces: All rows of the image.

        Raises:
            InputError: If no known range holds the values.
        """
        kind = self._layout.dtype if self._is_deep else np.dtype(np.uint8)
        self.scale = scale_of(self.ranged(pieces), kind, self._intensity, self._name)

    def rgb(self, native: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Rows as `(rows, width, 3)` uint8; pixels without data are black.

        Args:
            native: `(channels, rows, width)`, the values of [`TiffValues.channels`].
            mask: `(rows, width)` bool, which pixels hold data by the file's own mask, if it has one.
        """
        rows, width = native.shape[1:]
        pixels = np.empty((rows, width, 3), np.uint8)
        for part in _parts(rows, width * len(native)):
            piece, own = native[:, part], None if mask is None else mask[part]
            known = self.known(piece, own)
            colours = piece[: self._colours]
            values = colours if self._is_deep else self._eight_bits(piece)
            if self._is_deep and self.scale is not None:
                absent = self._absent(colours, known)
                if absent is not None:  # they may lie far outside the range
                    values = np.where(absent, np.array(self.scale.low, values.dtype), values)
            eight = values if self.scale is None else scaled(values, self.scale)
            if self._is_deep and self._layout.is_inverted:
                eight = 255 - eight
            pixels[part] = np.moveaxis(eight if known is None else eight * known, 0, -1)
        return pixels

    def known(self, native: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
        """Which pixels hold data, `(rows, width)` bool: by the value for "no data", by alpha and by a mask; None: all.

        Args:
            native: As of [`TiffValues.rgb`].
            mask: Likewise.
        """
        found = mask
        if self._no_data is not None:
            has_value = known_pixels(missing_values(native[: self._colours], self._no_data), 0)
            found = has_value if found is None else found & has_value
        if self._layout.alpha is not None:
            alpha = native[self._colours]
            covered = (alpha >> 8 if self._upper_byte else alpha) != 0
            found = covered if found is None else found & covered
        return None if found is None or found.all() else found

    def ranged(self, pieces: Iterable[Native]) -> Iterator[np.ndarray]:
        """The values that decide on the range."""
        return (self._ranged(*piece) for piece in pieces)

    def peak(self, pieces: Iterable[Native]) -> float | None:
        """The largest of the values that decide on the range; None if there are none, as without data."""
        found = [values.max() for values in self.ranged(pieces) if values.size]
        return float(max(found)) if found else None

    def _absent(self, colours: np.ndarray, known: np.ndarray | None) -> np.ndarray | None:
        """Which values count in no range, of the shape of the values or one that it can be stretched to."""
        absent = None if known is None else ~known[None]
        if self._no_data is None:
            return absent
        missing = missing_values(colours, self._no_data)
        return missing if absent is None else missing | absent

    def _ranged(self, native: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        known = self.known(native, mask)
        if not self._is_deep:
            values = self._eight_bits(native)
            return values if known is None else values[:, known]
        colours = native[: self._colours]
        absent = self._absent(colours, known)
        return colours if absent is None else colours[~np.broadcast_to(absent, colours.shape)]

    def _eight_bits(self, native: np.ndarray) -> np.ndarray:
        """Values of at most 8 bits, indices, or colours of 16 bits, as `(3, rows, width)` or `(1, rows, width)`."""
        palette = self._layout.palette
        if palette is not None:
            return np.moveaxis(palette[native[0].clip(0, len(palette) - 1)], -1, 0)
        values = (native >> 8).astype(np.uint8) if self._upper_byte else native
        colours = values[: self._colours]
        if self._layout.bits < 8:
            colours = colours * np.uint8(255 // (2**self._layout.bits - 1))
        if self._layout.is_inverted:
            colours = 255 - colours
        return _without_alpha(colours, values[self._colours]) if self._undo_alpha else colours


def each_part(native: np.ndarray, mask: np.ndarray | None) -> Callable[[], Iterable[Native]]:
    """The rows of a decoded image, a piece at a time, as often as asked for."""
    parts = _parts(native.shape[1], native.shape[2] * len(native))
    return lambda: ((native[:, part], None if mask is None else mask[part]) for part in parts)


def _parts(rows: int, values: int) -> list[slice]:
    step = max(1, PIECE // values)
    return [slice(top, top + step) for top in range(0, rows, step)]


def _without_alpha(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours as they were before they were multiplied by alpha, by Pillow's rounding."""
    mode, full, plain = ("La", "LA", "L") if len(colours) == 1 else ("RGBa", "RGBA", "RGB")
    height, width = alpha.shape
    pixels = np.moveaxis(np.concatenate([colours, alpha[None]]), 0, -1)
    image = Image.frombytes(mode, (width, height), pixels.tobytes())
    undone = np.asarray(image.convert(full))[..., : len(plain)]
    return np.moveaxis(undone, -1, 0)
