"""The header of TIFF files, read without looking at a pixel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from convlora.untrusted import open_ordinary

SOFTWARE_TAG = int(ExifTags.Base.Software)

_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of BigTIFF
_BIG = (b"II+\0", b"MM\0+")
_PHOTOMETRIC, _ORIENTATION = int(ExifTags.Base.PhotometricInterpretation), int(ExifTags.Base.Orientation)
_GREY_RGB_PALETTE_OR_YCBCR = (0, 1, 2, 3, 6)
_TRANSFORM_OR_TIE_POINTS = (33922, 34264)  # of GeoTIFF


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFF files do."""
    try:
        with open_ordinary(path) as stream:
            return stream.read(4) in _BEGINNINGS
    except OSError:
        return False


def read_tags(path: Path) -> Mapping[int, Any]:
    """The tags of the first page of a TIFF file; none of a damaged one, about which whoever reads it will complain."""
    try:
        with open_ordinary(path) as stream:
            header = stream.read(8)
            if header[:4] in _BIG:
                header += stream.read(8)
            directory = ImageFileDirectory_v2(header)
            stream.seek(directory.next)
            directory.load(stream)
            return dict(directory)
    except Exception:  # damaged files make Pillow raise nearly anything
        return {}


def in_plain_colours(tags: Mapping[int, Any]) -> bool:
    """Whether a file is upright and grey, RGB, of a palette, or JPEG's colours: what libraries agree on."""
    return tags.get(_ORIENTATION, 1) == 1 and tags.get(_PHOTOMETRIC, 1) in _GREY_RGB_PALETTE_OR_YCBCR


def is_georeferenced(tags: Mapping[int, Any]) -> bool:
    """Whether a file says where on earth its pixels lie."""
    return any(tag in tags for tag in _TRANSFORM_OR_TIE_POINTS)
