"""The header of TIFF files, read without looking at a pixel."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from convlora.untrusted import open_ordinary

SOFTWARE_TAG = int(ExifTags.Base.Software)

_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of BigTIFF
_BIG = (b"II+\0", b"MM\0+")
_PHOTOMETRIC, _ORIENTATION = int(ExifTags.Base.PhotometricInterpretation), int(ExifTags.Base.Orientation)
_GREY_RGB_PALETTE_OR_YCBCR = (0, 1, 2, 3, 6)
_TRANSFORM_OR_TIE_POINTS = (33922, 34264)  # of GeoTIFF
_NEW_KIND, _OLD_KIND, _DESCRIPTION = 254, 255, 270
_REDUCED, _MASK = 1, 4  # bits of what kind a page is
_OLD_REDUCED = 2
_MOST_PAGES = 1 << 16

# ImageJ writes one page for a large stack, and says in a text how many follow.
_IMAGEJ_STACK = re.compile(r"\AImageJ=.*^images=(\d{1,9})\s*$", re.DOTALL | re.MULTILINE)


def is_tiff(content: Path | bytes) -> bool:
    """Whether a file, or its bytes, begin as TIFF files do."""
    if isinstance(content, bytes):
        return content[:4] in _BEGINNINGS
    try:
        with open_ordinary(content) as stream:
            return stream.read(4) in _BEGINNINGS
    except OSError:
        return False


def directories(content: Path | bytes) -> Iterator[Mapping[int, Any]]:
    """The tags of each page, until the next one is asked for, as far as the file is whole."""
    if not is_tiff(content):
        return
    try:
        with io.BytesIO(content) if isinstance(content, bytes) else open_ordinary(content) as stream:
            yield from _walk(stream)
    except Exception:  # damaged files make Pillow raise nearly anything
        return


def read_tags(content: Path | bytes) -> Mapping[int, Any]:
    """The tags of the first page of a TIFF file; none of a damaged one, which reading its pixels reports."""
    for tags in directories(content):
        try:
            return dict(tags)
        except Exception:  # as of directories
            return {}
    return {}


def number_of_pages(content: Path | bytes) -> int:
    """How many images a TIFF file holds; smaller versions of the same image and masks of it are none."""
    count = 0
    for tags in directories(content):
        kind = tags.get(_NEW_KIND, 0)
        is_part = isinstance(kind, int) and bool(kind & (_REDUCED | _MASK))
        if not is_part and tags.get(_OLD_KIND) != _OLD_REDUCED:
            count += 1
            stack = _IMAGEJ_STACK.match(str(tags.get(_DESCRIPTION, "")))
            if stack is not None and count == 1:
                count = max(1, int(stack[1]))
                if count > 1:
                    return count
    return max(1, count)


def mask_page(content: Path | bytes) -> int | None:
    """Which page of a TIFF file, counted from 0, says where the first one holds data; None: there is no such page."""
    for number, tags in enumerate(directories(content)):
        kind = tags.get(_NEW_KIND, 0)
        if number and isinstance(kind, int) and kind & _MASK and not kind & _REDUCED:
            return number
    return None


def in_plain_colours(tags: Mapping[int, Any]) -> bool:
    """Whether a file is upright and grey, RGB, of a palette, or JPEG's colours: what libraries agree on."""
    return tags.get(_ORIENTATION, 1) == 1 and tags.get(_PHOTOMETRIC, 1) in _GREY_RGB_PALETTE_OR_YCBCR


def is_georeferenced(tags: Mapping[int, Any]) -> bool:
    """Whether a file says where on earth its pixels lie."""
    return any(tag in tags for tag in _TRANSFORM_OR_TIE_POINTS)


def _walk(stream: IO[bytes]) -> Iterator[Mapping[int, Any]]:
    header = stream.read(8)
    if header[:4] in _BIG:
        header += stream.read(8)
    directory = ImageFileDirectory_v2(header)
    seen: set[int] = set()
    while directory.next and directory.next not in seen and len(seen) < _MOST_PAGES:  # a chain may be a ring
        seen.add(directory.next)
        stream.seek(directory.next)
        directory.load(stream)
        yield directory
