"""The header of TIFF files, read without looking at a pixel."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags

from convlora.ordinary import open_ordinary

SOFTWARE_TAG = int(ExifTags.Base.Software)

_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of BigTIFF
_PHOTOMETRIC, _ORIENTATION = int(ExifTags.Base.PhotometricInterpretation), int(ExifTags.Base.Orientation)
_GREY_RGB_PALETTE_OR_YCBCR = (0, 1, 2, 3, 6)
_TRANSFORM_OR_TIE_POINTS = (33922, 34264)  # of GeoTIFF
_NEW_KIND, _OLD_KIND, _DESCRIPTION = 254, 255, 270
_REDUCED, _MASK = 1, 4  # bits of what kind a page is
_OLD_REDUCED = 2
_MOST_PAGES = 1 << 16
_MOST_VALUES = 1 << 18  # of a tag that is read: the largest colour map has fewer, the places of rows may have more

# ImageJ writes one page for a large stack, and says in a text how many follow.
_IMAGEJ_STACK = re.compile(r"\AImageJ=.*^images=(\d{1,9})\s*$", re.DOTALL | re.MULTILINE)


logging.getLogger("tifffile").addHandler(logging.NullHandler())  # or it would write about damaged files to stderr


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
    import tifffile

    seen: set[int] = set()
    try:
        with io.BytesIO(content) if isinstance(content, bytes) else open_ordinary(content) as stream:
            pages: Any = tifffile.TiffFile(stream).pages
            while len(seen) < _MOST_PAGES and (page := pages[len(seen)]).offset not in seen:  # a chain may be a ring
                seen.add(page.offset)
                yield {tag.code: tag.value for tag in page.tags if tag.count <= _MOST_VALUES}
    except Exception:  # at the end of the chain, and nearly anything for damaged files
        return


def read_tags(content: Path | bytes) -> Mapping[int, Any]:
    """The tags of the first page of a TIFF file; none of a damaged one, which reading its pixels reports."""
    return next(directories(content), {})


def number_of_pages(content: Path | bytes) -> int:
    """How many images a TIFF file holds; smaller versions of the same image and masks of it are none."""
    count = 0
    for tags in directories(content):
        if is_own_page(tags):
            count += 1
            stack = _IMAGEJ_STACK.match(str(tags.get(_DESCRIPTION, "")))
            if stack is not None and count == 1:
                count = max(1, int(stack[1]))
                if count > 1:
                    return count
    return max(1, count)


def is_own_page(tags: Mapping[int, Any]) -> bool:
    """Whether a page is an image of its own, and no smaller version or mask of another one."""
    kind = tags.get(_NEW_KIND, 0)
    is_part = isinstance(kind, int) and bool(kind & (_REDUCED | _MASK))
    return not is_part and tags.get(_OLD_KIND) != _OLD_REDUCED


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
