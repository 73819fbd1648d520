"""Warnings about what the headers of images and masks say and nobody may have meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convlora.data.checking.facts import Facts
from convlora.data.problem import Problem
from convlora.data.reading.band_files import has_bands_alone
from convlora.data.reading.bands import Reading
from convlora.data.reading.images import Header
from convlora.data.reading.stored import ImageSource

_QUARTER_TURNS = (5, 6, 7, 8)  # of EXIF orientations


def warnings_of_headers(facts: Sequence[Facts], intensity: Reading | None, only_windows: bool) -> list[Problem]:
    """All warnings of this module.

    Args:
        facts: What was read.
        intensity: How images will be read; None: not decided yet.
        only_windows: Whether to warn of images that can be read in windows alone.
    """
    found = inverted_storage(facts) + unused_parts(facts) + arrays_of_bands(facts, intensity) + turned_images(facts)
    return found + (only_in_windows(facts) if only_windows else [])


def unused_parts(facts: Sequence[Facts]) -> list[Problem]:
    """Warns once of images, and once of masks, if only their first page or first channels are read."""
    images = [(fact.sample.image, fact.image_header) for fact in facts]
    masks = [(fact.sample.mask, fact.mask_header) for fact in facts]
    return [
        problem
        for noun, files in (("images", images), ("masks", masks))
        for problem in (_pages(noun, files), _channels(noun, files))
        if problem is not None
    ]


def _pages(noun: str, files: Sequence[tuple[ImageSource | None, Header | None]]) -> Problem | None:
    found = [(file, header) for file, header in files if header is not None and header.pages > 1]
    if not found:
        return None
    file, header = found[0]
    left_out = sum(header.pages - 1 for _, header in found)
    advice = ""
    if noun == "images":
        advice = (
            ", or train with --set data.pages=slices if pages are the slices of a volume, or with --set "
            f"model.bands={header.pages} if they are bands of one image"
        )
    message = (
        f"{len(found)} of {len(files)} {noun} have several pages or frames (the first is {file} with {header.pages}), "
        f"and only the first is read; {left_out:,} are left out. Save those you need as images of their own{advice}."
    )
    return Problem("unused-pages", str(file), message, "warning")


def _channels(noun: str, files: Sequence[tuple[ImageSource | None, Header | None]]) -> Problem | None:
    found = [(file, header) for file, header in files if header is not None and header.unused_channels]
    if not found:
        return None
    file, header = found[0]
    advice = "Save those you need as RGB or grey."
    if noun == "images":
        advice = (
            "To train on all of them, set model.bands to their number; data.bands picks some, as in --set "
            "data.bands=[4,3,2]. Or save those you need as RGB or grey."
        )
    many = f"{header.unused_channels} more channels" if header.unused_channels > 1 else "1 more channel"
    message = (
        f"{len(found)} of {len(files)} {noun} have channels that are not read (the first is {file} with {many}): the "
        f"first three are red, green and blue, or the first one is grey. {advice}"
    )
    return Problem("unused-channels", str(file), message, "warning")


def arrays_of_bands(facts: Sequence[Facts], intensity: Reading | None) -> list[Problem]:
    """Says once that images are read as bands alone, where it is not settled how images are read."""
    found = [fact for fact in facts if intensity is None and has_bands_alone(fact.sample.image)]
    if not found:
        return []
    first = found[0]
    bands = "1 band" if first.bands == 1 else f"{first.bands} bands"
    are = "NumPy files" if isinstance(first.sample.image, Path) else "of volumes with several channels"
    message = (
        f"{len(found)} of {len(facts)} images are {are} (the first is {first.sample.image} with {bands}). To "
        f"train on them: --set model.bands={first.bands}; data.bands picks some of several."
    )
    return [Problem("numpy-bands", str(first.sample.image), message, "warning")]


def only_in_windows(facts: Sequence[Facts]) -> list[Problem]:
    """Warns once of images that are too large to be trained on as a whole."""
    found = [fact for fact in facts if fact.is_huge and fact.image_size is not None]
    if not found:
        return []
    first = found[0]
    height, width = first.image_size or (0, 0)
    message = (
        f"{len(found)} of {len(facts)} images are too large to be decoded whole (the first is {first.sample.image} "
        f"with {width}x{height} pixels). Train on windows of them: convlora train DATA --window 512."
    )
    return [Problem("only-windows", str(first.sample.image), message, "warning")]


def inverted_storage(facts: Sequence[Facts]) -> list[Problem]:
    """Warns once of masks that viewers show inverted: their stored values count."""
    masks = [fact for fact in facts if fact.mask_header is not None]
    found = [fact.sample.mask for fact in masks if fact.mask_header is not None and fact.mask_header.zero_is_white]
    if not found:
        return []
    message = (
        f"{len(found)} of {len(masks)} masks are TIFF files that say that 0 is white (the first is {found[0]}). Their "
        "stored values count: 0 is the background, which viewers show white. If you mean what viewers show, save them "
        "as PNG."
    )
    return [Problem("zero-is-white", str(found[0]), message, "warning")]


def turned_images(facts: Sequence[Facts]) -> list[Problem]:
    """Warns once of images that EXIF turns in a way that their sizes cannot confirm.

    A quarter turn of an image that is not square shows in the size of its mask. If masks fit such images, their
    tool saw the images upright, and there is nothing to warn of.
    """
    turned = [fact for fact in facts if fact.image_header is not None and fact.image_header.orientation in range(2, 9)]
    turned = [fact for fact in turned if fact.sample.mask is not None and not _turned_alike(fact)]
    if any(_shows(fact) and not fact.is_bad for fact in turned):
        return []
    found = [fact for fact in turned if not _shows(fact)]
    if not found:
        return []
    first = found[0].sample.image
    message = (
        f"{len(found)} of {len(facts)} images are turned or mirrored by EXIF (the first is {first}), and nothing tells "
        "whether their masks were drawn on them so. Look at one with its mask; if they do not fit, remove the "
        "orientation from the images: exiftool -Orientation= FILES."
    )
    return [Problem("turned-image", str(first), message, "warning")]


def _turned_alike(fact: Facts) -> bool:
    """Whether the mask states the same orientation, so that both are turned."""
    image, mask = fact.image_header, fact.mask_header
    return image is not None and mask is not None and image.orientation == mask.orientation


def _shows(fact: Facts) -> bool:
    """Whether the size tells."""
    header = fact.image_header
    return header is not None and header.orientation in _QUARTER_TURNS and header.size[0] != header.size[1]
