"""From the mask of a sample to the labels of its image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.images import read_for_size, read_header, read_image, read_mask
from convlora.data.reading.no_data import turned
from convlora.data.reading.stored import ImageSource
from convlora.data.sample import Sample, size_mismatch_message
from convlora.errors import InputError

_QUARTER_TURNS = (5, 6, 7, 8)  # of EXIF orientations


@dataclass(frozen=True)
class BrightMask:
    """A mask that is a picture: softened at its edges, or compressed as JPEG.

    Args:
        source: The picture.
        threshold: Grey value of 0 to 255 from which on a pixel is foreground, 1; else it is 0.
    """

    source: ImageSource
    threshold: int

    def __str__(self) -> str:
        return str(self.source)

    def load(self) -> Image.Image:
        """Draws it."""
        grey = np.asarray(read_image(self.source).convert("L"))
        return Image.fromarray((grey >= self.threshold).astype(np.uint8))


def labels_of(sample: Sample, classes: ClassTable) -> tuple[np.ndarray, bool]:
    """The labels that fit a sample's image as it is read: upright.

    Returns:
        Class indices and ignore value, `(H, W)`, and whether they had to be turned as EXIF says of the image.

    Raises:
        InputError: The image or the mask cannot be read, or they do not fit each other.
    """
    assert sample.mask is not None, "samples without masks are left out before"  # noqa: S101
    try:
        _, size = read_for_size(sample.image, (1, 1))  # that it can be decoded shows at an eighth of its size, too
    except InputError:
        _, size = read_for_size(sample.image, (1, 1), "image")  # fractions may lack a known range, which is no damage
    labels = classes.encode(read_mask(sample.mask), sample.mask)
    shape = (labels.shape[0], labels.shape[1])
    if shape == size:
        return labels, False
    orientation = read_header(sample.image).orientation
    if shape == size[::-1] and orientation in _QUARTER_TURNS:
        return np.ascontiguousarray(turned(labels, orientation)), True
    raise InputError(size_mismatch_message(sample, size, shape))
