"""Reading an image as a run asks for it: as RGB, or band by band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from convlora.data.reading import images
from convlora.data.reading.band_files import BandSource, band_size, read_bands, read_known_bands
from convlora.data.reading.bands import BandImage, BandReading, Reading, picture_of
from convlora.data.reading.stored import StoredImage


def read_seen(
    source: BandSource, size: tuple[int, int], reading: Reading
) -> tuple[Image.Image | BandImage, tuple[int, int]]:
    """Reads what a model is about to see, see `convlora.data.reading.images.read_for_size`.

    Args:
        source: A file, the bytes of one, an image stored elsewhere, or pixels.
        size: (height, width) that it will be shrunk to.
        reading: How values become 8 bits, or which bands are read.

    Returns:
        The image, and its own (height, width).

    Raises:
        InputError: If it cannot be read, or has other bands.
    """
    if isinstance(reading, BandReading):
        bands = read_as(source, reading)
        return bands, (bands.height, bands.width)
    return images.read_for_size(source, size, reading)  # type: ignore[arg-type]


def read_as(source: BandSource, reading: Reading) -> Image.Image | BandImage:
    """Reads an image at its own size, as a model is given it.

    Raises:
        InputError: As [`read_seen`].
    """
    if not isinstance(reading, BandReading):
        return images.read_image(source, reading)  # type: ignore[arg-type]
    bands = read_bands(source, reading)
    # Bands that stand for colours, or for grey, are a photograph from here on.
    return bands.picture() if reading.is_colour else bands


def read_picture(source: BandSource, reading: Reading) -> Image.Image:
    """Reads an image at its own size as people are shown it: of several bands the first three.

    Raises:
        InputError: As [`read_seen`].
    """
    return picture_of(read_as(source, reading))


def read_known(source: BandSource, reading: Reading) -> np.ndarray | None:
    """Which pixels of an image hold data, see `convlora.data.reading.images.read_known`."""
    if isinstance(reading, BandReading):
        return read_known_bands(source, reading)
    return images.read_known(source)  # type: ignore[arg-type]


def read_size(source: Path | str | bytes | StoredImage, reading: Reading) -> tuple[int, int]:
    """The (height, width) that a header states."""
    return band_size(source) if isinstance(reading, BandReading) else images.read_image_size(source)
