"""Images that are no files of their own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from convlora.untrusted import read_bytes


@runtime_checkable
class StoredImage(Protocol):
    """An image or a mask inside something larger, such as a row of a table; its text says where, for messages."""

    def load(self) -> bytes | Image.Image:
        """The bytes of an image file, or the image itself."""


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
    loaded = source.load()
    if isinstance(loaded, bytes):
        return loaded
    stream = io.BytesIO()
    loaded.save(stream, format="PNG", compress_level=0)
    return stream.getvalue()
