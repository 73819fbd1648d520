"""Checking a data set before any training time is spent on it."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from convlora.data.classes import ClassTable
from convlora.data.classes_file import NamedClasses, read_classes_json
from convlora.data.colours import without_grey
from convlora.data.images import brightest_of_sixteen_bits, read_image, read_image_size, read_mask
from convlora.data.meaning import resolve_classes, table_for
from convlora.data.problem import Problem
from convlora.data.report import CheckReport, ImageSizes
from convlora.data.sample import Sample, size_mismatch_message
from convlora.data.sources import DataSource
from convlora.data.stored import ImageSource, content_of
from convlora.errors import InputError

__all__ = ["CheckReport", "ImageSizes", "Problem", "check_data"]

Progress = Callable[[Iterable, str], Iterable]

_MASKS_SAMPLED = 48
_DARK_BELOW = 65536 // 8  # of a 12-bit camera stored in 16 bits, only a sixteenth of the range is used
_MOST_THREADS = 8


@dataclass
class _Facts:
    """What was read of one sample."""

    split: str
    sample: Sample
    image_size: tuple[int, int] | None = None
    values: Counter[int] | None = None  # pixels per value on disk
    digest: str | None = None
    brightest: int | None = None  # of a 16-bit image
    problems: list[Problem] = field(default_factory=list)


def check_data(
    source: DataSource,
    *,
    full: bool,
    progress: Progress | None = None,
    known: ClassTable | None = None,
    is_known: bool = False,
) -> CheckReport:
    """Checks that a data set can be trained on, and finds out its classes.

    Args:
        source: The data set.
        full: Whether to decode every file once. Otherwise only headers are read, and the values of up to 48 evenly
            spaced masks of the train split (of more masks if these leave the meaning of 255 open).
        progress: Wraps what is iterated over, with a description, to show a progress bar.
        known: The classes the data are expected to have; they stand in where the masks alone do not tell, as in a test
            split without foreground.
        is_known: The data are the very ones whose classes are known, so that what fits them means the same.

    Returns:
        The findings, in an order that does not depend on the number of threads.
    """
    track: Progress = progress or (lambda items, _: items)
    facts = [_Facts(split, sample) for split, samples in source.splits.items() for sample in samples]
    _in_threads(_read_whole if full else _read_headers, facts, track, "Reading images and masks")
    named, unnamed = _read_names(source)
    if not full:
        _read_some_values(source, facts, track, named)

    problems = list(source.problems)
    problems += [
        Problem("empty-split", str(source.root), f"The split {split!r} of {source.root} is empty. Add samples to it.")
        for split, samples in source.splits.items()
        if not samples
    ]
    problems += [problem for fact in facts for problem in fact.problems]
    problems += unnamed
    classes = None if unnamed else _resolve(source, facts, problems, known, is_known)
    report = CheckReport(
        problems,
        classes,
        {split: len(samples) for split, samples in source.splits.items()},
        image_sizes=ImageSizes.of(fact.image_size for fact in facts if fact.image_size),
    )
    if full:
        problems += _duplicate_images(facts)
        problems += _dark_images(facts)
        if classes is not None:
            _count_pixels(report, classes, facts)
            problems += _absent_classes(report, classes, source)
    return report


def _in_threads(read: Callable[[_Facts], None], facts: Sequence[_Facts], track: Progress, text: str) -> None:
    """Fills the facts; Pillow decodes without holding the interpreter lock, so threads help."""
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(read, fact) for fact in facts]
        try:
            for future in track(futures, text):
                future.result()
        except BaseException:  # a user who interrupts should not wait for files that are still in the queue
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read_headers(fact: _Facts) -> None:
    sample = fact.sample
    fact.image_size = _reading(fact, read_image_size, sample.image)
    if sample.mask is None:
        return
    mask_size = _reading(fact, read_image_size, sample.mask)
    if fact.image_size is not None and mask_size != fact.image_size and mask_size == fact.image_size[::-1]:
        # The orientation of a PNG file may stand behind its pixels, where the header does not show it.
        fact.image_size = _decoded_size(fact)
        mask = _reading(fact, read_mask, sample.mask)
        mask_size = mask.shape if mask is not None else None
    _compare_sizes(fact, mask_size)


def _read_whole(fact: _Facts) -> None:
    sample = fact.sample
    fact.image_size = _decoded_size(fact)
    if fact.image_size is not None:
        fact.digest = hashlib.blake2b(content_of(sample.image), digest_size=16).hexdigest()
        fact.brightest = brightest_of_sixteen_bits(sample.image)
    if sample.mask is not None:
        mask = _reading(fact, read_mask, sample.mask)
        if mask is not None:
            fact.values = _count_values(mask)
            _compare_sizes(fact, (mask.shape[0], mask.shape[1]))


def _decoded_size(fact: _Facts) -> tuple[int, int] | None:
    """Decodes the image; that its values have no known range is only a warning, because a setting solves it."""
    path = fact.sample.image
    try:
        image = read_image(path)
    except InputError as error:
        image = _reading(fact, lambda image_path: read_image(image_path, "image"), path)
        if image is None:
            return None
        fact.problems.append(Problem("unknown-range", str(path), str(error), "warning"))
    return image.height, image.width


def _reading(fact: _Facts, read: Callable[[Any], Any], path: ImageSource) -> Any:
    try:
        return read(path)
    except InputError as error:
        fact.problems.append(Problem("unreadable", str(path), str(error)))
        return None


def _compare_sizes(fact: _Facts, mask_size: tuple[int, int] | None) -> None:
    if fact.image_size is None or mask_size is None or fact.image_size == mask_size:
        return
    message = size_mismatch_message(fact.sample, fact.image_size, mask_size)
    fact.problems.append(Problem("size-mismatch", str(fact.sample.mask), message))


def _count_values(mask: np.ndarray) -> Counter[int]:
    values, counts = np.unique(mask, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _read_names(source: DataSource) -> tuple[NamedClasses | None, list[Problem]]:
    """What classes.json says, or what is wrong with it."""
    if source.classes_json is None:
        return None, []
    try:
        return read_classes_json(source.classes_json), []
    except InputError as error:
        return None, [Problem("classes-json", str(source.classes_json), str(error))]


def _read_some_values(source: DataSource, facts: list[_Facts], track: Progress, named: NamedClasses | None) -> None:
    split = "train" if source.splits.get("train") else next((name for name, some in source.splits.items() if some), "")
    candidates = [fact for fact in facts if fact.split == split and fact.sample.mask is not None]
    steps = np.linspace(0, len(candidates) - 1, min(_MASKS_SAMPLED, len(candidates))).round().astype(int)
    sampled = [candidates[step] for step in steps.tolist()]
    _in_threads(_read_values, sampled, track, "Reading masks")
    if source.classes is None and _is_open(_all_values(sampled), named):
        # With rare foreground even 48 masks may show no 1, and then 255 would be taken for the wrong thing.
        rest = [fact for fact in facts if fact.values is None and fact.sample.mask is not None]
        _in_threads(_read_values, rest, track, "Reading all masks")


def _is_open(values: set[int], named: NamedClasses | None) -> bool:
    values = without_grey(values)
    if named is None:
        return len(values) < 2
    stated = named.states_ignore_index and named.ignore_index == 255
    return len(named.names) == 2 and 255 in values and values <= {0, 255} and stated


def _read_values(fact: _Facts) -> None:
    path = fact.sample.mask
    if path is None or any(problem.path == str(path) for problem in fact.problems if problem.kind == "unreadable"):
        return
    mask = _reading(fact, read_mask, path)
    if mask is not None:
        fact.values = _count_values(mask)


def _all_values(facts: Iterable[_Facts]) -> set[int]:
    return {value for fact in facts for value in fact.values or ()}


def _resolve(
    source: DataSource, facts: list[_Facts], problems: list[Problem], known: ClassTable | None, is_known: bool
) -> ClassTable | None:
    if source.classes is not None:
        return source.classes
    values = _all_values(facts)
    if not values:
        return None
    # Data without a classes.json, of which only some classes occur, are no binary task if their classes are known.
    trusted = is_known or (source.classes_json is None and known is not None and known.num_classes > 2)
    if known is not None and trusted and not known.values_outside(values):
        return known
    try:
        classes = resolve_classes(values, source.classes_json, source.root)
        if known is not None and source.classes_json is None and classes.num_classes == known.num_classes:
            classes = replace(classes, names=known.names)
    except InputError as error:
        if known is not None and not known.values_outside(values):
            return known
        found = _files_outside(source, facts)
        problems += found
        if source.classes_json is None or not found:
            problems.append(Problem("values", str(source.root), str(error)))
        return None
    problems += _mixed_masks(classes, facts, source)
    return classes


def _files_outside(source: DataSource, facts: list[_Facts]) -> list[Problem]:
    """One problem per mask that holds values which no class table could explain."""
    if source.classes_json is not None:
        table = table_for(read_classes_json(source.classes_json), _all_values(facts))
    else:
        # Where most masks are binary, the others are the ones at fault.
        table = ClassTable(("background", "foreground"))
        masks = [fact for fact in facts if fact.values]
        if 2 * sum(not table.values_outside(fact.values or ()) for fact in masks) <= len(masks):
            return []
    found = []
    for fact in facts:
        outside = table.values_outside(fact.values or ())
        if outside and fact.sample.mask is not None:
            message = table.outside_message(outside, fact.sample.mask, fact.values or ())
            found.append(Problem("values", str(fact.sample.mask), message))
    return found


def _mixed_masks(classes: ClassTable, facts: list[_Facts], source: DataSource) -> list[Problem]:
    """Warns of 0/255 masks among 0/1 masks, whose foreground would be ignored without a word."""
    if classes.num_classes != 2 or classes.label_map is not None or classes.ignore_index != 255:
        return []
    value_sets = [(fact, without_grey(fact.values)) for fact in facts if fact.values]
    # A mask with all three values shows that 255 is meant as the ignore value.
    if any({1, 255} <= values for _, values in value_sets):
        return []
    bright = [fact for fact, values in value_sets if 255 in values]
    if not bright:
        return []
    message = (
        f"{len(bright)} of {len(value_sets)} masks of {source.root} are 0/255 (the first is {bright[0].sample.mask}) "
        "and the others 0/1, so that 255 is ignored. If it is foreground, save all masks alike."
    )
    return [Problem("mixed-masks", str(bright[0].sample.mask), message, "warning")]


def _duplicate_images(facts: list[_Facts]) -> list[Problem]:
    first: dict[str, _Facts] = {}
    problems = []
    for fact in facts:
        if fact.digest is None:
            continue
        other = first.setdefault(fact.digest, fact)
        if other.split != fact.split:
            message = (
                f"{fact.sample.image} in {fact.split} is the same image as {other.sample.image} in {other.split}, "
                "so scores would be too good. Remove one of them."
            )
            problems.append(Problem("duplicate-image", str(fact.sample.image), message))
        elif other is not fact and other.sample.image != fact.sample.image:
            message = (
                f"{fact.sample.image} is the same image as {other.sample.image}. "
                "Remove one of them unless it is meant to count twice."
            )
            problems.append(Problem("duplicate-image", str(fact.sample.image), message, "warning"))
    return problems


def _dark_images(facts: list[_Facts]) -> list[Problem]:
    """Warns once, if most 16-bit images are dark; a single dark one among many may just show little."""
    deep = [fact for fact in facts if fact.brightest is not None]
    dark = [fact for fact in deep if (fact.brightest or 0) < _DARK_BELOW]
    if 2 * len(dark) <= len(deep):
        return []
    message = (
        f"{len(dark)} of {len(deep)} 16-bit images use less than an eighth of the 16-bit range (the first is "
        f"{dark[0].sample.image}) and will look nearly black. Consider --set data.intensity=image."
    )
    return [Problem("dark-16-bit", str(dark[0].sample.image), message, "warning")]


def _count_pixels(report: CheckReport, classes: ClassTable, facts: list[_Facts]) -> None:
    for split in report.counts:
        report.class_pixels[split] = [0] * classes.num_classes
        report.ignored_pixels[split] = 0
    for fact in facts:
        if not fact.values:
            continue
        values = np.array(list(fact.values), dtype=np.int64)
        for label, count in zip(classes.encode(values, ""), fact.values.values(), strict=True):
            if label == classes.ignore_index:
                report.ignored_pixels[fact.split] += count
            else:
                report.class_pixels[fact.split][int(label)] += count


def _absent_classes(report: CheckReport, classes: ClassTable, source: DataSource) -> list[Problem]:
    problems = []
    for split, pixels in report.class_pixels.items():
        absent = [name for name, count in zip(classes.names, pixels, strict=True) if count == 0]
        if absent and report.counts[split] and any(pixels):
            message = (
                f"The split {split!r} of {source.root} has no pixel of {', '.join(absent)}, "
                f"so {'it' if len(absent) == 1 else 'they'} can be neither learned nor scored there."
            )
            problems.append(Problem("absent-class", str(source.root), message, "warning"))
    return problems
