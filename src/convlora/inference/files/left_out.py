"""Pages and channels of images that are not segmented."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from convlora.data.reading.images import read_header
from convlora.data.reading.stored import ImageSource
from convlora.errors import InputError

_OF_ONE_PAGE = (".jpg", ".jpeg", ".bmp")


def parts_left_out(images: Iterable[ImageSource]) -> str | None:
    """What to say if of some images only the first page or the first channels are segmented; None if of none.

    Args:
        images: What is going to be segmented.
    """
    several, more = [], []
    for image in images:
        if isinstance(image, Path) and (image.suffix.lower() in _OF_ONE_PAGE or not image.is_file()):
            continue  # nothing to be found, or to wait for
        try:
            header = read_header(image)
        except InputError:  # said when it is segmented
            continue
        if header.pages > 1:
            several.append((image, header.pages))
        if header.unused_channels:
            more.append((image, header.unused_channels))
    said = []
    if several:
        image, pages = several[0]
        said.append(f"{image} has {pages:,} pages or frames{_others(several)}. Only the first is segmented.")
    if more:
        image, channels = more[0]
        which = "1 channel that is" if channels == 1 else f"{channels:,} channels that are"
        said.append(f"{image} has {which} not used{_others(more)}.")
    return " ".join(said) or None


def _others(found: list[tuple[ImageSource, int]]) -> str:
    others = len(found) - 1
    return f" ({others:,} more image{'s' if others > 1 else ''} like it)" if others else ""
