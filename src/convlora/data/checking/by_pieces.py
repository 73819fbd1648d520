"""What a check reads of images too large to be decoded whole, for those who only want windows of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from convlora.data.reading.bands import BandReading, Reading
from convlora.data.reading.mask_rows import open_mask
from convlora.data.reading.mask_values import count_values
from convlora.data.reading.rows import open_rows
from convlora.data.sample import Sample
from convlora.ordinary import open_ordinary

_BAND = 1 << 24  # pixels that are read together


class ReadByPieces(NamedTuple):
    """What was read.

    Attributes:
        image_size: (height, width) in pixels.
        mask_size: Likewise; None: there is no mask.
        values: Pixels per value of the mask, counted up to a number of values.
        digest: Digest of the image file.
    """

    image_size: tuple[int, int]
    mask_size: tuple[int, int] | None
    values: Counter[int]
    digest: str


def read_by_pieces(sample: Sample, most_values: int, intensity: Reading) -> ReadByPieces:
    """Reads an image and its mask, some rows at a time.

    Args:
        sample: The image is a file.
        most_values: Counting stops with more different values than that.
        intensity: How values become 8 bits, or which bands are read.

    Raises:
        InputError: If one cannot be read.
    """
    if isinstance(intensity, BandReading) and intensity.ranges is None:  # only whether it can be read is of interest
        intensity = replace(intensity, ranges=((0.0, 1.0),) * intensity.count)
    with open_rows(sample.image, intensity) as image:
        size = (image.height, image.width)
        for top, bottom in _bands(size):
            image.read(top, bottom)
    values, mask_size = Counter[int](), None
    if sample.mask is not None:
        with open_mask(sample.mask) as mask:
            mask_size = (mask.height, mask.width)
            for top, bottom in _bands(mask_size):
                if len(values) <= most_values:
                    values.update(count_values(mask.read(top, bottom), most_values))
    assert isinstance(sample.image, Path)  # noqa: S101 - others are not read by rows
    with open_ordinary(sample.image) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return ReadByPieces(size, mask_size, values, digest)


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    step = max(1, _BAND // size[1])
    return ((top, min(top + step, size[0])) for top in range(0, size[0], step))
