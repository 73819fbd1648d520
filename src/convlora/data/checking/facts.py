"""What a check reads of each sample."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convlora.cores import usable_cores
from convlora.data.checking.by_pieces import read_by_pieces
from convlora.data.checking.mask_files import MaskFile, read_mask_file
from convlora.data.problem import Problem
from convlora.data.reading.band_files import band_size, count_bands, has_bands_alone, read_stored
from convlora.data.reading.bands import BandReading, Reading, check_count
from convlora.data.reading.colours import is_colour
from convlora.data.reading.images import (
    Header,
    brightest_of_sixteen_bits,
    full_scale_of_fractions,
    is_deep,
    read_header,
    read_image,
    read_image_size,
    read_mask,
)
from convlora.data.reading.mask_values import count_values
from convlora.data.reading.read import read_seen, read_size
from convlora.data.reading.rows import is_huge
from convlora.data.reading.stored import ImageSource, LoadedOnce, ScaledImage, content_of, is_first_part
from convlora.data.sample import Sample, size_mismatch_message
from convlora.errors import InputError

Progress = Callable[[Iterable, str], Iterable]

MOST_VALUES = 4096  # of one mask; photographs taken for masks would fill the memory with their colours
_MOST_THREADS = 8
_LARGE = 2**25  # pixels; decoding takes some ten bytes for each

_one_large = threading.Lock()


@dataclass
class Facts:
    """What was read of one sample."""

    split: str
    sample: Sample
    image_size: tuple[int, int] | None = None
    image_header: Header | None = None
    bands: int | None = None  # without alpha
    mask_header: Header | None = None
    values: Counter[int] | None = None  # pixels per value on disk
    digest: str | None = None
    brightest: int | None = None  # of a 16-bit image
    full_scale: int | None = None  # of a float image
    mask_file: MaskFile | None = None
    is_huge: bool = False  # too large to be decoded whole
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, path: object, message: str, **more: Any) -> None:
        """Notes a finding."""
        self.problems.append(Problem(kind, str(path), message, split=self.split, **more))

    @property
    def is_bad(self) -> bool:
        """Whether something is wrong with the image or its mask."""
        return any(problem.severity == "error" for problem in self.problems)


def in_threads(read: Callable[[Facts], None], facts: Sequence[Facts], track: Progress, text: str) -> None:
    """Fills the facts; Pillow decodes without holding the interpreter lock, so threads help."""
    with ThreadPoolExecutor(min(_MOST_THREADS, usable_cores())) as pool:
        futures = [pool.submit(read, fact) for fact in facts]
        try:
            for future in track(futures, text):
                future.result()
        except BaseException:  # a user who interrupts should not wait for files that are still in the queue
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_headers(fact: Facts, intensity: Reading | None = None) -> None:
    """Compares the sizes that the headers state.

    Args:
        fact: What to fill.
        intensity: How the image will be read; None: not decided yet.
    """
    sample = fact.sample
    _read_image_header(fact, intensity)
    fact.image_size = None if fact.image_header is None else fact.image_header.size
    if sample.mask is None:
        return
    fact.mask_header = _reading(fact, read_header, sample.mask)
    mask_size = None if fact.mask_header is None else fact.mask_header.size
    if fact.image_size is not None and mask_size != fact.image_size and mask_size == fact.image_size[::-1]:
        # The orientation of a PNG file may stand behind its pixels, where the header does not show it.
        fact.image_size = _decoded_size(fact, intensity if isinstance(intensity, BandReading) else None)
        mask = _reading(fact, read_mask, sample.mask)
        mask_size = mask.shape if mask is not None else None
    _compare_sizes(fact, mask_size)


def _read_image_header(fact: Facts, intensity: Reading | None) -> None:
    """What the header of the image says, and how many bands it has."""
    image = fact.sample.image
    image = image if isinstance(image, (Path, ScaledImage)) else LoadedOnce(image)
    has_alpha = False
    if isinstance(intensity, BandReading) or _may_have_bands(image):
        counted = _reading(fact, count_bands, image)
        if counted is None:
            return
        fact.bands, has_alpha = counted
    if isinstance(intensity, BandReading):
        _reading(fact, lambda path: check_count(str(path), fact.bands or 0, has_alpha, intensity), image)
    if isinstance(intensity, BandReading) or (intensity is None and has_bands_alone(image)):
        size = _reading(fact, band_size, image)
        fact.image_header = None if size is None else Header(size)
    else:
        fact.image_header = _reading(fact, read_header, image)


def _may_have_bands(image: ImageSource) -> bool:
    """Whether an image is a file of a kind that holds any number of bands; opening all others for it takes long."""
    if not isinstance(image, Path):
        return has_bands_alone(image)
    return image.suffix.lower() in (".tif", ".tiff", ".npy")


def read_whole(fact: Facts, most_values: int = MOST_VALUES, intensity: Reading | None = None) -> None:
    """Decodes the image and the mask.

    Args:
        fact: What to fill.
        most_values: A mask of more different values is no map of classes.
        intensity: How the image will be read; None: not decided yet.
    """
    if _is_large(fact.sample.image, intensity) or _is_large(fact.sample.mask):
        with _one_large:  # eight at a time would take gigabytes
            _read_whole(fact, most_values, intensity)
    else:
        _read_whole(fact, most_values, intensity)


def or_by_pieces(
    fact: Facts,
    read: Callable[[Facts], None],
    most_values: int = MOST_VALUES,
    intensity: Reading | None = None,
    in_windows: bool | None = True,
) -> None:
    """Reads what cannot be decoded whole by pieces, for those who only want windows of it.

    Args:
        fact: What to fill.
        read: Reads everything else.
        most_values: As of [`read_whole`].
        intensity: As there.
        in_windows: Whether only windows will be read; None: perhaps. If not, what is too large is an error.
    """
    image = fact.sample.image
    # Opening every photo to see whether it is a TIFF file takes long.
    fact.is_huge = (bool(in_windows) or _may_have_bands(image)) and is_huge(image)
    if not fact.is_huge:
        read(fact)
        return
    if in_windows is False:
        advice = "A model that is trained with --window 512 reads windows of it"
        fact.add("unreadable", image, f"{image} is too large to be decoded whole. {advice}.")
        return
    with _one_large:
        found = _reading(
            fact, lambda _: read_by_pieces(fact.sample, most_values, intensity or "type"), fact.sample.image
        )
    if found is not None:
        fact.image_size, fact.digest = found.image_size, found.digest
        _compare_sizes(fact, found.mask_size)
        if fact.sample.mask is not None:
            _note_values(fact, found.values, sum(found.values.values()) == math.prod(found.image_size), most_values)


def read_values(fact: Facts, most_values: int = MOST_VALUES) -> None:
    """Decodes the mask alone."""
    path = fact.sample.mask
    if (
        path is None
        or fact.values is not None
        or any(problem.path == str(path) for problem in fact.problems if problem.kind == "unreadable")
    ):
        return
    _read_mask(fact, path, most_values)


def _read_mask(fact: Facts, path: ImageSource, most_values: int) -> np.ndarray | None:
    """The mask, after its values were counted and its file was checked; None if it cannot be read."""
    source = path if isinstance(path, Path) else LoadedOnce(path)
    mask: np.ndarray | None = _reading(fact, read_mask, source)
    if mask is not None:
        fact.mask_header = _reading(fact, read_header, source)
        _count_values(fact, mask, most_values)
        fact.mask_file = _reading(fact, lambda stored: read_mask_file(stored, fact.values or ()), source)
    return mask


def _read_whole(fact: Facts, most_values: int, intensity: Reading | None) -> None:
    sample = fact.sample
    fact.image_size = _decoded_size(fact, intensity)
    if fact.image_size is not None:
        _read_image_header(fact, intensity)
        if is_first_part(sample.image):  # once for a volume
            fact.digest = hashlib.blake2b(content_of(sample.image), digest_size=16).hexdigest()
        # Of values whose range is unknown there is more to say than that they are dark.
        by_type = intensity != "image" and not isinstance(intensity, BandReading) and not has_bands_alone(sample.image)
        if by_type and not fact.problems and is_deep(sample.image):
            fact.brightest = brightest_of_sixteen_bits(sample.image)
            fact.full_scale = full_scale_of_fractions(sample.image)
    if sample.mask is not None:
        if _is_large(sample.mask) and fact.image_size is not None:
            stated = _reading(fact, read_image_size, sample.mask)
            if stated not in (fact.image_size, fact.image_size[::-1]):
                _compare_sizes(fact, stated)
                return
        mask = _read_mask(fact, sample.mask, most_values)
        if mask is not None:
            _compare_sizes(fact, (mask.shape[0], mask.shape[1]))


def _is_large(image: ImageSource | None, reading: Reading | None = None) -> bool:
    if not isinstance(image, Path):
        return False
    try:
        height, width = read_size(image, reading or "type")
    except InputError:  # said when it is decoded
        return False
    return height * width > _LARGE


def _decoded_size(fact: Facts, intensity: Reading | None = None) -> tuple[int, int] | None:
    """Decodes the image; that its values have no known range is only a warning where a setting can still solve it."""
    path = fact.sample.image
    if intensity is None and has_bands_alone(path):
        stored = _reading(fact, read_stored, path)
        return None if stored is None else (stored.values.shape[1], stored.values.shape[2])
    try:
        # That a JPEG file can be decoded shows at an eighth of its size too.
        _, size = read_seen(path, (1, 1), intensity or "type")
    except InputError as error:
        if intensity is not None:
            fact.add("unreadable", path, str(error))
            return None
        stretched = _reading(fact, lambda image_path: read_image(image_path, "image"), path)
        if stretched is None:
            return None
        fact.add("unknown-range", path, str(error), severity="warning")
        size = (stretched.height, stretched.width)
    return size


def _reading(fact: Facts, read: Callable[[Any], Any], path: ImageSource) -> Any:
    try:
        return read(path)
    except InputError as error:
        fact.add("unreadable", path, str(error))
        return None


def _compare_sizes(fact: Facts, mask_size: tuple[int, int] | None) -> None:
    if fact.image_size is None or mask_size is None or fact.image_size == mask_size:
        return
    fact.add("size-mismatch", fact.sample.mask, size_mismatch_message(fact.sample, fact.image_size, mask_size))


def _count_values(fact: Facts, mask: np.ndarray, most_values: int) -> None:
    counts = count_values(mask, most_values)
    _note_values(fact, counts, sum(counts.values()) == mask.size, most_values)


def _note_values(fact: Facts, counts: Counter[int], are_all: bool, most_values: int) -> None:
    if len(counts) > most_values:
        noun = "colours" if is_colour(max(counts)) else "values"
        about = "" if are_all else "at least "
        message = (
            f"{fact.sample.mask} holds {about}{len(counts):,} different {noun}, so it is a photograph or "
            f"JPEG-compressed, and no map of classes. Save masks as PNG with one {noun[:-1]} per class."
        )
        fact.add("values", fact.sample.mask, message)
        return
    fact.values = counts
