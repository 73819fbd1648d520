"""Images that are no files of their own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from convlora.data.reading.intensities import Intensity
from convlora.untrusted import read_bytes


@runtime_checkable
class StoredImage(Protocol):
    """An image or a mask inside something larger, such as a row of a table; its text says where, for messages."""

    def load(self) -> bytes | Image.Image:
        """The bytes of an image file, or the image itself."""


@runtime_checkable
class ScaledImage(StoredImage, Protocol):
    """A stored image that says how its values become intensities, such as a slice of a volume that has one range."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""

    @property
    def volume(self) -> str:
        """What it is a part of: such parts stay together when images are divided."""

    @property
    def index(self) -> int:
        """Its place in that, from 0."""

    @property
    def bands(self) -> int | None:
        """Numbers of each pixel that are no colours, so that it is read band by band alone; None: it has none such."""

    def values(self) -> np.ndarray:
        """As stored: `(H, W)`, `(H, W, 3)` in colour, or `(H, W, bands)`."""

    def rgb(self, intensity: Intensity) -> Image.Image:
        """The image as 8-bit RGB."""

    def brightest(self) -> int | None:
        """The largest value of the whole, if it is an integer deeper than 8 bits and the type alone scales it."""

    def full_scale(self) -> int | None:
        """By what the values of the whole are divided, if they are fractions and the type alone scales them."""

    def identity(self) -> bytes:
        """Bytes that are equal for equal images."""


ImageSource = Path | StoredImage
"""Where a sample's image or mask is."""


class LoadedOnce:
    """A stored image that keeps what it has loaded, for those who look at it more than once."""

    def __init__(self, source: StoredImage) -> None:
        self._source = source
        self._loaded: bytes | Image.Image | None = None

    def __str__(self) -> str:
        return str(self._source)

    def load(self) -> bytes | Image.Image:
        """See [`StoredImage`]."""
        if self._loaded is None:
            self._loaded = self._source.load()
        return self._loaded


def content_of(source: ImageSource) -> bytes:
    """Bytes that are equal for equal images of the same source."""
    if isinstance(source, Path):
        return read_bytes(source)
    if isinstance(source, ScaledImage):
        return source.identity()
    loaded = source.load()
    if isinstance(loaded, bytes):
        return loaded
    stream = io.BytesIO()
    loaded.save(stream, format="PNG", compress_level=0)
    return stream.getvalue()


def volume_of(source: ImageSource | None) -> str | None:
    """The volume that an image is a slice of, by its name; None: it is an image of its own."""
    return source.volume if isinstance(source, ScaledImage) else None


def is_first_part(source: ImageSource) -> bool:
    """Whether an image is the first slice of its volume, or stands alone."""
    return not isinstance(source, ScaledImage) or source.index == 0
