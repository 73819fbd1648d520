"""The bands of image files: TIFF files, their pages, arrays of NumPy, and photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from convlora.data.reading.bands import BandImage, BandReading, Range, check_count, to_eight_bits
from convlora.data.reading.images import decoding, open_image, read_header, read_image
from convlora.data.reading.no_data import missing_values, turned
from convlora.data.reading.numpy_file import (
    bands_first,
    check_numbers,
    is_numpy,
    read_array,
    read_array_header,
    shape_of,
)
from convlora.data.reading.stored import ScaledImage, StoredImage
from convlora.data.reading.tiff.decoding import decode, decode_pages, mask_of
from convlora.data.reading.tiff.header import number_of_pages
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.data.reading.tiff.size import check_size

BandSource = Path | str | bytes | StoredImage | Image.Image | np.ndarray | BandImage
EIGHT_BITS: Range = (0.0, 255.0)
_GREY_MODES = ("1", "L", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")


@dataclass(frozen=True)
class Stored:
    """All bands of an image as they are stored, upright.

    Attributes:
        values: `(bands, H, W)`; alpha is one of them.
        alpha: Which of them is alpha, counted from 0.
        no_data: The value that stands for no data.
        mask: Which pixels hold data by a mask of the file, `(H, W)` bool; None: the file has none.
        hides: Whether alpha says where there is data; only that of a TIFF file does.
    """

    values: np.ndarray
    alpha: int | None = None
    no_data: float | None = None
    mask: np.ndarray | None = None
    hides: bool = False

    def chosen(self, reading: BandReading) -> list[int]:
        """Which bands are read, counted from 0."""
        if reading.picked is not None:
            return [number - 1 for number in reading.picked]
        return [band for band in range(len(self.values)) if band != self.alpha]

    def missing(self, band: int, bands: list[int]) -> np.ndarray | None:
        """Pixels of a band without data, `(H, W)` bool; None: all have data.

        Args:
            band: Which one.
            bands: All that are read. Alpha that is read as a band hides nothing.
        """
        values = self.values[band]
        found = None if self.mask is None else ~self.mask
        parts = []
        if self.hides and self.alpha is not None and self.alpha not in bands:
            parts.append(self.values[self.alpha] == 0)
        if self.no_data is not None:
            parts.append(missing_values(values, self.no_data))
        if values.dtype.kind == "f":
            parts.append(~np.isfinite(values))
        for part in parts:
            found = part if found is None else found | part
        return found if found is not None and found.any() else None

    def known(self, bands: list[int]) -> np.ndarray | None:
        """Pixels with data in at least one of the bands, `(H, W)` bool; None: all."""
        nowhere: np.ndarray | None = None
        for band in bands:
            missing = self.missing(band, bands)
            if missing is None:
                return None
            nowhere = missing if nowhere is None else nowhere & missing
        return None if nowhere is None or not nowhere.any() else ~nowhere


def read_bands(source: BandSource, reading: BandReading) -> BandImage:
    """Reads the bands of an image.

    Args:
        source: A file, the bytes of one, an image stored elsewhere, or pixels.
        reading: Which bands, and how.

    Returns:
        The bands as 8-bit values, upright. Pixels without data are 0.

    Raises:
        InputError: The image is missing, damaged, or has other bands.
    """
    if isinstance(source, BandImage):
        return source
    name = name_of(source)
    stored = read_stored(source)
    check_count(name, len(stored.values) - (stored.alpha is not None), stored.alpha is not None, reading)
    bands = stored.chosen(reading)
    pixels = np.empty((*stored.values.shape[1:], len(bands)), np.uint8)
    for place, band in enumerate(bands):
        missing = stored.missing(band, bands)
        full = own_range(stored.values[band], missing) if reading.ranges is None else reading.ranges[place]
        pixels[..., place] = to_eight_bits(stored.values[band], full, missing)
    return BandImage(pixels)


def read_known_bands(source: BandSource, reading: BandReading) -> np.ndarray | None:
    """Which pixels hold data in at least one of the bands that are read, `(H, W)` bool; None: all.

    Raises:
        InputError: As [`read_bands`].
    """
    if isinstance(source, (BandImage, np.ndarray, Image.Image)):
        return None
    stored = read_stored(source)
    check_count(name_of(source), len(stored.values) - (stored.alpha is not None), stored.alpha is not None, reading)
    return stored.known(stored.chosen(reading))


def own_range(values: np.ndarray, missing: np.ndarray | None) -> Range:
    """What of a band becomes 0 and 255 where nothing else says so: bytes as they are, else its smallest and largest."""
    if values.dtype == np.uint8:
        return EIGHT_BITS
    kept = values if missing is None else values[~missing]
    return (float(kept.min()), float(kept.max())) if kept.size else (0.0, 0.0)


def count_bands(source: Path | str | StoredImage | bytes) -> tuple[int, bool]:
    """How many bands an image has without alpha, and whether it has alpha; of most files by their headers alone.

    Raises:
        InputError: The file is missing or not an image.
    """
    name = name_of(source)
    if isinstance(source, ScaledImage):
        return source.bands or len(read_stored(source).values), False
    with decoding(name):
        content = _content(source)
        if isinstance(content, (Path, bytes)) and is_numpy(content):
            return shape_of(read_array_header(content, name).shape, name)[0], False
        layout = TiffLayout.of_file(content) if isinstance(content, (Path, bytes)) else None
        if layout is not None and _is_of_values(layout) and isinstance(content, (Path, bytes)):
            layout.check(name)
            return (_pages(content, layout) or layout.samples - (layout.alpha is not None)), layout.alpha is not None
    with open_image(source) as opened:
        bands = getattr(opened, "getbands", lambda: ("R", "G", "B"))()
        if opened.format == "TIFF" or not set(bands) <= {*"RGBALIF1"}:
            return 3, False  # decoders make RGB of palettes and of other spaces of colour
        return len(bands) - ("A" in bands), "A" in bands


def has_bands_alone(source: Path | str | StoredImage | bytes) -> bool:
    """Whether an image is read band by band alone: a file of NumPy, or a slice of a volume with several channels.

    Nothing is loaded to find out.
    """
    if isinstance(source, ScaledImage):
        return source.bands is not None
    return isinstance(source, (Path, bytes)) and is_numpy(source)


def band_size(source: Path | str | StoredImage | bytes) -> tuple[int, int]:
    """The (height, width) that a header states.

    Raises:
        InputError: The file is missing or not an image.
    """
    if isinstance(source, ScaledImage):
        return source.size
    name = name_of(source)
    with decoding(name):
        content = _content(source)
        if isinstance(content, (Path, bytes)) and is_numpy(content):
            _, height, width = shape_of(read_array_header(content, name).shape, name)
            return height, width
    return read_header(source).size


def name_of(source: BandSource) -> str:
    """What messages call an image."""
    if isinstance(source, (str, Path, StoredImage)):
        return str(source)
    return str(getattr(source, "filename", "") or "The image given")


def read_stored(source: BandSource) -> Stored:
    """All bands of an image.

    Raises:
        InputError: The image is missing, damaged, or none.
    """
    name = name_of(source)
    if isinstance(source, BandImage):
        return Stored(np.moveaxis(source.pixels, -1, 0))
    if isinstance(source, np.ndarray):
        check_numbers(source.dtype, name)
        return _of_array(source, name)
    if isinstance(source, ScaledImage):
        values = source.values()
        return Stored(values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0))
    with decoding(name):
        content = _content(source)
        if isinstance(content, (Path, bytes)):
            if is_numpy(content):
                return _of_array(read_array(content, name), name)
            layout = TiffLayout.of_file(content)
            if layout is not None and _is_of_values(layout):
                return _of_tiff(content, layout, name)
        return _of_pillow(source)


def _content(source: BandSource) -> object:
    """A path or bytes, where there is one, or what else the image is."""
    content = source.load() if isinstance(source, StoredImage) else source
    return Path(content) if isinstance(content, str) else content


def _of_array(array: np.ndarray, name: str) -> Stored:
    values = bands_first(array, name)
    return Stored(values.astype(np.uint8) * np.uint8(255) if values.dtype == bool else values)


def _is_of_values(layout: TiffLayout) -> bool:
    """Whether the values of a TIFF file are those of bands, and not of a palette or another space of colours."""
    return layout.palette is None and not layout.needs_pillow


def _pages(content: Path | bytes, layout: TiffLayout) -> int:
    """How many pages are bands; 0: the file has one page, or each has bands of its own."""
    pages = number_of_pages(content) if layout.samples == 1 else 1
    return pages if pages > 1 else 0


def pages_are_bands(path: Path) -> bool:
    """Whether a TIFF file has to be decoded whole: its pages are bands, or its values are those of a palette."""
    layout = TiffLayout.of_file(path)
    return layout is not None and (not _is_of_values(layout) or _pages(path, layout) > 0)


def _of_tiff(content: Path | bytes, layout: TiffLayout, name: str) -> Stored:
    layout.check(name)
    check_size(layout, content, name)
    if layout.height * layout.width > 2 * (Image.MAX_IMAGE_PIXELS or layout.height * layout.width):
        raise Image.DecompressionBombError
    pages = _pages(content, layout)
    values = decode_pages(content, layout, pages, name) if pages else decode(content, layout, name)
    mask = mask_of(content, layout, name)
    values = np.stack([turned(band, layout.orientation) for band in values]) if layout.orientation != 1 else values
    mask = None if mask is None else turned(mask, layout.orientation)
    values, no_data = with_meaning(values, layout, layout.no_data)
    return Stored(values, layout.alpha, no_data, mask, hides=True)


def with_meaning(values: np.ndarray, layout: TiffLayout, no_data: float | None) -> tuple[np.ndarray, float | None]:
    """Values and the one for no data, where a TIFF file has grey growing towards black, or fewer than 8 bits.

    Args:
        values: As they are stored, of any shape.
        layout: Layout of the file.
        no_data: The value for no data.
    """
    brightest = 2**layout.bits - 1
    if layout.is_inverted and layout.kind == "u":
        values = values.dtype.type(brightest) - values
        no_data = None if no_data is None else brightest - no_data
    if layout.bits < 8:  # as grey values of eight bits
        factor = 255 // brightest
        values, no_data = values * np.uint8(factor), None if no_data is None else no_data * factor
    return values, no_data


def _of_pillow(source: BandSource) -> Stored:
    """Photographs: grey of any depth, or the colours and alpha of eight bits."""
    with open_image(source) as opened:  # type: ignore[arg-type]
        if isinstance(opened, Image.Image) and not is_tiff_image(opened):
            upright = ImageOps.exif_transpose(opened)
            if upright.mode in _GREY_MODES:
                values = np.asarray(upright.convert("L") if upright.mode == "1" else upright)
                return Stored(values[None])
            if upright.mode in ("RGBA", "LA"):
                values = np.moveaxis(np.asarray(upright), -1, 0)
                return Stored(values, alpha=len(values) - 1)
    return Stored(np.moveaxis(np.asarray(read_image(source)), -1, 0))  # type: ignore[arg-type]


def is_tiff_image(opened: Image.Image) -> bool:
    """Whether Pillow has opened a TIFF file: what comes here is of a palette, or of another space of colours."""
    return opened.format == "TIFF"
