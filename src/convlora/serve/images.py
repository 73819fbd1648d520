"""The image of a request: untrusted bytes that are read with limits, and never written to a disk."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from convlora.data.reading.bands import BandReading
from convlora.data.reading.read import read_as, read_size
from convlora.data.reading.signatures import is_known
from convlora.data.reading.tiff.header import number_of_pages
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.errors import InputError, shown
from convlora.inference.segmenter import SeenImage, Segmenter
from convlora.serve.engine import ToBeCut
from convlora.serve.limits import Limits, Problem

_JPEG, _SCAN = b"\xff\xd8\xff", b"\xff\xda"
_SCANS = 20  # of the largest image that is taken; a progressive JPEG file has about ten
_BYTES = 16  # of a pixel of the largest image; four channels of 32 bits
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Upload:
    """The bytes of an image file, and what the client calls it; a `StoredImage`.

    Attributes:
        content: The bytes.
        name: For messages only.
    """

    content: bytes
    name: str = ""

    def __str__(self) -> str:
        last = self.name.replace("\\", "/").rpartition("/")[2].strip()
        return shown(last, _LONGEST_NAME) if last else "The image"

    def load(self) -> bytes:
        """See `StoredImage`."""
        return self.content


def see(upload: Upload, segmenter: Segmenter, limits: Limits) -> SeenImage | ToBeCut:
    """Checks an image by its header, then decodes it.

    Args:
        upload: The image.
        segmenter: The model that is to see it; it is not called.
        limits: What is taken.

    Returns:
        What the model sees, without the image itself.

    Raises:
        Problem: If it is no image, too large, or damaged.
    """
    try:
        size = read_size(upload, segmenter.intensity)
    except InputError as error:
        raise _unreadable(error, 422 if is_known(upload.content) else 415) from error
    _check_size(upload, size, limits, segmenter)
    try:
        if segmenter.tiles is not None:  # the windows are cut when it is its turn
            whole = read_as(upload, segmenter.intensity)  # and forgets it: many would fill the memory
            return ToBeCut(upload, (whole.height, whole.width))
        return segmenter.see(upload)._replace(whole=None)
    except InputError as error:
        raise _unreadable(error) from error


def _unreadable(error: InputError, status: int = 422) -> Problem:
    """The problem that an image cannot be read."""
    is_too_large = isinstance(error.__cause__, (Image.DecompressionBombError, MemoryError))
    return Problem(413 if is_too_large else status, str(error))


def _check_size(upload: Upload, size: tuple[int, int], limits: Limits, segmenter: Segmenter) -> None:
    """Refuses what would take too much memory or time to decode."""
    height, width = size
    pixels = height * width
    if pixels > limits.pixels:
        raise Problem(
            413,
            f"{upload} has {width} x {height} pixels, and at most {limits.pixels:,} are taken. Make it smaller, or cut "
            "it into tiles.",
        )
    if upload.content.startswith(_JPEG) and upload.content.count(_SCAN) * pixels > _SCANS * limits.pixels:
        # Each scan passes over all pixels, and takes a few dozen bytes.
        raise Problem(422, f"{upload} is a JPEG file in too many steps. Save it again as an ordinary JPEG or PNG file.")
    layout = TiffLayout.of_file(upload.content)
    if layout is not None:
        pages = number_of_pages(upload.content) if isinstance(segmenter.intensity, BandReading) else 1
        needed = pages * pixels * layout.depth * layout.samples * max(1, layout.bits // 8)
        if needed > _BYTES * limits.pixels:
            raise Problem(
                413, f"{upload} has {layout.describe()}, which is too much for its size. Leave out channels or cut it."
            )
