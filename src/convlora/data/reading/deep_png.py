"""PNG files with 16 bits in each of several channels. Pillow keeps the upper eight only."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from convlora.data.reading.depth import depth_of
from convlora.data.reading.no_data import turned

_END = b"\0\0\0\0IEND\xaeB`\x82"  # the last part, which Pillow can do without and OpenCV cannot
_MODES = ("RGB", "RGBA", "LA")  # what Pillow calls them


def has_deep_colours(opened: Image.Image) -> bool:
    """Whether a file, not decoded yet, is such a PNG file."""
    return opened.format == "PNG" and opened.mode in _MODES and depth_of(opened) == 16


def deep_colours(opened: Image.Image) -> np.ndarray | None:
    """The values of such a PNG file.

    Args:
        opened: The file, not decoded yet. Pillow has decoded it afterwards.

    Returns:
        Red, green and blue, `(H, W, 3)` uint16, upright. None for other files.

    Raises:
        Exception: Of either decoder, if the file is damaged.
    """
    if not has_deep_colours(opened):
        return None
    import cv2  # slow to import, so only where it is used

    file = opened.fp  # type: ignore[attr-defined]
    place = file.tell()
    file.seek(0)
    content = np.frombuffer(file.read() + _END, np.uint8)
    file.seek(place)
    opened.load()  # raises an error if pixels are damaged; OpenCV would print warnings and return what there is
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.shape[2:] not in ((3,), (4,)):
        raise ValueError("OpenCV cannot decode it")
    values = values[..., 2::-1]  # of blue, green, red and alpha
    return turned(values, opened.getexif().get(ExifTags.Base.Orientation, 1))
