"""TIFF files that Pillow does not know, or takes for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from convlora.data.reading.colours import colour_values
from convlora.data.reading.intensities import Intensity, find_range, scale_by_type
from convlora.data.reading.mask_values import SAVE_MASK, whole_numbers
from convlora.data.reading.no_data import turned
from convlora.data.reading.tiff.decoding import decode, mask_of
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.data.reading.tiff.size import check_size
from convlora.data.reading.tiff.values import TiffValues, each_part
from convlora.errors import InputError


class OtherTiff:
    """An open file, with the parts of Pillow's interface that a header needs.

    Args:
        content: A file, or the bytes of one.
        layout: Layout of its pixels.
        name: Name of the file, for messages.
    """

    format = "TIFF"

    def __init__(self, content: Path | bytes, layout: TiffLayout, name: str) -> None:
        self.content, self.layout, self.name = content, layout, name

    def rgb(self, intensity: Intensity) -> Image.Image:
        """The image, upright, as 8-bit RGB.

        Raises:
            InputError: It is damaged, or its values have no known range.
        """
        native, mask = self._decoded()
        values = TiffValues(self.layout, self.layout.no_data, intensity, self.name)
        pieces = each_part(native[list(values.channels)], mask)
        if values.decides_on_all:
            values.find_scale(pieces())
        pixels = np.concatenate([values.rgb(*piece) for piece in pieces()])
        image = Image.fromarray(pixels)
        image.getexif()[ExifTags.Base.Orientation] = self.layout.orientation
        return ImageOps.exif_transpose(image)

    def known(self) -> np.ndarray | None:
        """Which pixels hold data, `(H, W)` bool upright; None: all.

        Raises:
            InputError: It is damaged.
        """
        if self.layout.may_lack_data:
            native, mask = self._decoded()
            values = TiffValues(self.layout, self.layout.no_data, "type", self.name)
            known = values.known(native[list(values.channels)], mask)
        else:
            known = mask_of(self.content, self.layout, self.name)
        return None if known is None or known.all() else turned(known, self.layout.orientation)

    def mask(self) -> np.ndarray:
        """The values as they are stored, `(H, W)` upright, colours as numbers of their own.

        Raises:
            InputError: It is damaged, or has several channels that are no 8-bit colours.
        """
        native, _ = self._decoded()
        colours = native[list(self.layout.colours)]
        if len(colours) == 1:
            values = colours[0] if self.layout.dtype in (np.uint8, np.uint16) else whole_numbers(colours[0], self.name)
        elif self.layout.dtype == np.uint8:
            values = colour_values(np.moveaxis(colours, 0, -1))
        else:
            raise InputError(f"{self.name} is a mask with {self.layout.describe()}. {SAVE_MASK}")
        return turned(values, self.layout.orientation)

    def brightest(self) -> int | None:
        """The largest value of whole numbers of more than 8 bits; None for others, and without data."""
        if self.layout.kind == "f" or self.layout.dtype.itemsize == 1 or len(self.layout.colours) > 1:
            return None
        peak = self._measured(lambda values, pieces: values.peak(pieces()))
        return None if peak is None else int(peak)

    def full_scale(self) -> int | None:
        """By what fractions are divided; None for whole numbers, and for an image that is black."""
        if self.layout.kind != "f":
            return None
        found = self._measured(lambda values, pieces: find_range(values.ranged(pieces()), self.name))
        return int(scale_by_type(found, self.layout.dtype, self.name).full) if found.high > 0 else None

    def _measured(self, measure: Any) -> Any:
        native, mask = self._decoded()
        values = TiffValues(self.layout, self.layout.no_data, "type", self.name)
        return measure(values, each_part(native[list(values.channels)], mask))

    def _decoded(self) -> tuple[np.ndarray, np.ndarray | None]:
        layout = self.layout
        pixels = layout.height * layout.width
        most = 2 * (Image.MAX_IMAGE_PIXELS or pixels)
        if pixels > most:
            raise Image.DecompressionBombError  # as Pillow does of other files
        return decode(self.content, layout, self.name), mask_of(self.content, layout, self.name)


def other_tiff(content: Path | bytes, name: str) -> OtherTiff | None:
    """The file, if it is a TIFF that Pillow should not read; None for all others, and for what is damaged.

    Raises:
        InputError: It is a TIFF file of a kind that nothing reads, or far too small for its pixels.
    """
    layout = TiffLayout.of_file(content)
    if layout is None:
        return None
    layout.check(name)
    check_size(layout, content, name)
    return None if layout.is_plain else OtherTiff(content, layout, name)
