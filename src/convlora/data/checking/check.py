"""Checking a data set before any training time is spent on it."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from convlora.data.checking.facts import (
    MOST_VALUES,
    Facts,
    Progress,
    in_threads,
    or_by_pieces,
    read_headers,
    read_values,
    read_whole,
)
from convlora.data.checking.header_warnings import warnings_of_headers
from convlora.data.checking.mask_warnings import different_palettes, inverted_masks, lossy_masks, mixed_masks
from convlora.data.checking.report import CheckReport, ImageSizes
from convlora.data.checking.volumes import volumes_of
from convlora.data.classes.class_table import ClassTable
from convlora.data.classes.classes_json import NamedClasses, read_classes_json
from convlora.data.classes.meaning import resolve_classes, table_for
from convlora.data.problem import Problem, Severity
from convlora.data.reading.bands import Reading
from convlora.data.reading.colours import without_grey
from convlora.data.sample import Sample
from convlora.data.sources.opening import ALL, DataSource
from convlora.errors import InputError

__all__ = ["MASKS_SAMPLED", "CheckReport", "ImageSizes", "Problem", "check_data"]

MASKS_SAMPLED = 48
_DARK_BELOW = 65536 // 8  # of a 12-bit camera stored in 16 bits, only a sixteenth of the range is used
_MOST_NAMED = 10
# Findings about one file or pair, without which the rest is as good as before.
_CAN_BE_LEFT_OUT = ("unreadable", "missing-pair", "duplicate-stem", "size-mismatch", "values")


def check_data(
    source: DataSource,
    *,
    full: bool,
    progress: Progress | None = None,
    known: ClassTable | None = None,
    is_known: bool = False,
    intensity: Reading | None = None,
    leave_out: bool = False,
    in_windows: bool | None = False,
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
        intensity: How the images will be read, or which bands of them, if that is settled; see `read_image`.
        leave_out: Whether to go on without the files that cannot be used. The report is then about the others, and
            lists the ones left out in `skipped`.
        in_windows: Whether only windows of the images will be read, so that TIFF files may be too large to be decoded
            whole. None: not decided yet; then it is a warning that they are.

    Returns:
        The findings, in an order that does not depend on the number of threads.
    """
    track: Progress = progress or (lambda items, _: items)
    facts = [Facts(split, sample) for split, samples in source.splits.items() for sample in samples]
    named, unnamed = _read_names(source)
    most_values = max(
        MOST_VALUES, len(named.names) if named else 0, source.classes.num_classes if source.classes else 0
    )
    read = (
        partial(read_whole, most_values=most_values, intensity=intensity)
        if full
        else partial(read_headers, intensity=intensity)
    )
    read = partial(or_by_pieces, read=read, most_values=most_values, intensity=intensity, in_windows=in_windows)
    in_threads(read, facts, track, "Reading images and masks")
    if not full:
        _read_some_values(source, facts, track, named, most_values)
    used = facts
    classes, unexplained = None, unnamed
    while True:
        used = [fact for fact in used if not (leave_out and fact.is_bad)]
        if not unnamed:
            classes, unexplained = _resolve(source, used, known, is_known)
        if not (leave_out and any(fact.is_bad for fact in used)):
            break

    of_files = [*source.problems, *(problem for fact in facts for problem in fact.problems)]
    skipped = [problem for problem in of_files if leave_out and _can_be_left_out(problem)]
    told = {(one.kind, one.message, one.split): one for one in reversed(of_files)}  # once for all slices of a volume
    problems = [one for one in reversed(told.values()) if not (leave_out and _can_be_left_out(one))]
    problems = _unknown_ranges_once(problems)
    splits = {split: [fact.sample for fact in used if fact.split == split] for split in source.splits}
    problems += _empty_splits(source, splits, skipped)
    problems += unexplained
    problems += _unseen_annotations(used)
    report = CheckReport(
        problems,
        classes,
        {split: len(samples) for split, samples in splits.items()},
        image_sizes=ImageSizes.of(fact.image_size for fact in used if fact.image_size),
        skipped=skipped,
        bands=sorted({fact.bands for fact in used if fact.bands is not None}),
        splits=splits,
        values={id(fact.sample): fact.values for fact in used if fact.values is not None},
        volumes=volumes_of(splits),
    )
    if classes is not None:
        is_settled = known is not None or (named is not None and named.states_ignored)
        problems += mixed_masks(classes, used, source.root, is_settled)
    problems += lossy_masks(used) + different_palettes(used)
    problems += warnings_of_headers(used, intensity, only_windows=in_windows is None)
    if classes is not None and classes.num_classes == 2 and _is_told_by_values(source, known):
        problems += inverted_masks(classes, used)
    if full:
        problems += _duplicate_images(used)
        problems += _dark_images(used)
        problems += _different_scales(used)
        if classes is not None:
            _count_pixels(report, classes, used)
            problems += _absent_classes(report, classes, source)
            problems += _ignored_masks(classes, used, source)
    return report


def _unknown_ranges_once(problems: list[Problem]) -> list[Problem]:
    """Keeps the first of the problems of an unknown range, with their number: one setting settles all of them."""
    found = [problem for problem in problems if problem.kind == "unknown-range"]
    if len(found) < 2:
        return problems
    first = found[0]
    are = "1 more file is" if len(found) == 2 else f"{len(found) - 1:,} more files are"
    merged = replace(first, message=f"{first.message} {are} like it.")
    return [merged if one is first else one for one in problems if one is first or one not in found]


def _is_told_by_values(source: DataSource, known: ClassTable | None) -> bool:
    """Whether nobody has said which of two values is the foreground."""
    return source.classes is None and source.classes_json is None and known is None


def _can_be_left_out(problem: Problem) -> bool:
    return problem.severity == "error" and problem.kind in _CAN_BE_LEFT_OUT and problem.split is not None


def _empty_splits(source: DataSource, splits: dict[str, list[Sample]], skipped: list[Problem]) -> list[Problem]:
    problems = []
    for split, samples in splits.items():
        reasons = [problem for problem in skipped if problem.split == split]
        told = any(problem.split == split and problem.severity == "error" for problem in source.problems)
        if samples or (told and not reasons):
            continue
        message = f"The split {split!r} of {source.root} is empty. Add samples to it."
        if reasons:
            others = f" ({len(reasons) - 1} more like this)" if len(reasons) > 1 else ""
            message = f"Nothing in the split {split!r} of {source.root} can be used{others}: {reasons[0].message}"
        problems.append(Problem("empty-split", str(source.root), message, split=split))
    return problems


def _unseen_annotations(facts: list[Facts]) -> list[Problem]:
    """Warns of annotations that are too small, outside or without an outline, once for each file of annotations."""
    unseen: dict[tuple[str, str], list[str]] = {}
    for fact in facts:
        path, image = getattr(fact.sample.mask, "path", ""), fact.sample.image
        for name in getattr(fact.sample.mask, "unseen", {}).values():
            unseen.setdefault((fact.split, str(path)), []).append(f"annotation {name} of {image}")
    problems = []
    for (split, path), found in unseen.items():
        cover = "1 annotation covers" if len(found) == 1 else f"{len(found):,} annotations cover"
        message = (
            f"{cover} no pixel in {path} (the first is {found[0]}), so nothing is learned from "
            f"{'it' if len(found) == 1 else 'them'}. Enlarge or remove what is too small, outside of its image, or "
            "without an outline."
        )
        problems.append(Problem("unseen-annotation", path, message, "warning", split))
    return problems


def _read_names(source: DataSource) -> tuple[NamedClasses | None, list[Problem]]:
    """What classes.json says, or what is wrong with it."""
    if source.classes_json is None:
        return None, []
    try:
        return read_classes_json(source.classes_json), []
    except InputError as error:
        return None, [Problem("classes-json", str(source.classes_json), str(error))]


def _read_some_values(
    source: DataSource, facts: list[Facts], track: Progress, named: NamedClasses | None, most_values: int
) -> None:
    split = "train" if source.splits.get("train") else next((name for name, some in source.splits.items() if some), "")
    candidates = [fact for fact in facts if fact.split == split and fact.sample.mask is not None]
    steps = np.linspace(0, len(candidates) - 1, min(MASKS_SAMPLED, len(candidates))).round().astype(int)
    sampled = [candidates[step] for step in steps.tolist()]
    read = partial(read_values, most_values=most_values)
    in_threads(read, sampled, track, "Reading masks")
    if source.classes is None and _is_open(_all_values(sampled), named):
        # With rare foreground even 48 masks may show no 1, and then 255 would be taken for the wrong thing.
        rest = [fact for fact in facts if fact.values is None and fact.sample.mask is not None]
        in_threads(read, rest, track, "Reading all masks")


def _is_open(values: set[int], named: NamedClasses | None) -> bool:
    values = without_grey(values)
    if named is None:
        return len(values) < 2
    stated = named.states_ignored and named.ignored == (255,)
    return len(named.names) == 2 and 255 in values and values <= {0, 255} and stated


def _all_values(facts: Iterable[Facts]) -> set[int]:
    return {value for fact in facts for value in fact.values or ()}


def _resolve(
    source: DataSource, facts: list[Facts], known: ClassTable | None, is_known: bool
) -> tuple[ClassTable | None, list[Problem]]:
    """The classes; or none, with what is wrong noted at the masks at fault, or returned where all are."""
    if source.classes is not None:
        return source.classes, []
    values = _all_values(facts)
    if not values:
        return None, []
    # Data without a classes.json in which only some classes occur are no binary task if their classes are known. And
    # the smaller of two values need not be the background if the run has it otherwise.
    told = known is not None and (known.num_classes > 2 or known.label_map is not None)
    trusted = is_known or (source.classes_json is None and told)
    if known is not None and trusted and not known.values_outside(values):
        return known, []
    try:
        classes = resolve_classes(values, source.classes_json, source.root)
    except InputError as error:
        if known is not None and not known.values_outside(values):
            return known, []
        found = _note_values_outside(source, facts)
        if found and source.classes_json is not None:
            return None, []
        return None, [Problem("values", str(source.root), str(error))]
    if known is not None and source.classes_json is None and classes.num_classes == known.num_classes:
        classes = replace(classes, names=known.names)
    return classes, []


def _note_values_outside(source: DataSource, facts: list[Facts]) -> bool:
    """Notes the masks that hold values which no class table could explain; returns whether there are such."""
    if source.classes_json is not None:
        table = table_for(read_classes_json(source.classes_json), _all_values(facts))
    else:
        # Where most masks are binary, the others are the ones at fault.
        table = ClassTable(("background", "foreground"))
        masks = [fact for fact in facts if fact.values]
        if 2 * sum(not table.values_outside(fact.values or ()) for fact in masks) <= len(masks):
            return False
    found = False
    for fact in facts:
        outside = table.values_outside(fact.values or ())
        if outside and fact.sample.mask is not None:
            fact.add("values", fact.sample.mask, table.outside_message(outside, fact.sample.mask, fact.values or ()))
            found = True
    return found


def _duplicate_images(facts: list[Facts]) -> list[Problem]:
    first: dict[str, Facts] = {}
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
            problems.append(Problem("duplicate-image", str(fact.sample.image), message, split=fact.split))
        elif other is not fact and other.sample.image != fact.sample.image:
            message = (
                f"{fact.sample.image} is the same image as {other.sample.image}. "
                "Remove one of them unless it is meant to count twice."
            )
            problems.append(Problem("duplicate-image", str(fact.sample.image), message, "warning", fact.split))
    return problems


def _dark_images(facts: list[Facts]) -> list[Problem]:
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


def _different_scales(facts: list[Facts]) -> list[Problem]:
    """Warns of float images that are scaled differently: one value a little above 1 makes an image nearly black."""
    scales: dict[int, list[Facts]] = {}
    for fact in facts:
        if fact.full_scale is not None:
            scales.setdefault(fact.full_scale, []).append(fact)
    if len(scales) < 2:
        return []
    found = [f"{len(some)} by {scale} (the first is {some[0].sample.image})" for scale, some in sorted(scales.items())]
    message = (
        f"Float images are divided by what their largest value suggests: {' and '.join(found)}, so that they differ in "
        "brightness. Scale all of them to 0 to 1, or use --set data.intensity=image."
    )
    rarest = min(scales.values(), key=len)
    return [Problem("different-scales", str(rarest[0].sample.image), message, "warning")]


def _count_pixels(report: CheckReport, classes: ClassTable, facts: list[Facts]) -> None:
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
        if not any((*pixels, report.ignored_pixels[split])):  # no mask could be read, which is said of each
            continue
        where = f"the split {split!r} of {source.root}"
        absent = [name for name, count in zip(classes.names, pixels, strict=True) if count == 0]
        severity: Severity = "warning"
        if not any(pixels):
            severity = "warning" if split == "test" else "error"
            message = f"All pixels in the masks of {where} are ignored. Check the masks and the ignore value."
        elif split in ("train", ALL) and len(absent) == classes.num_classes - 1:
            (only,) = set(classes.names) - set(absent)
            severity = "error"
            message = f"The masks of {where} hold only {only}, so there is nothing to learn. Check the masks."
        elif absent:
            message = (
                f"The split {split!r} of {source.root} has no pixel of {_some_of(absent)}, "
                f"so {'it' if len(absent) == 1 else 'they'} can be neither learned nor scored there."
            )
        else:
            continue
        problems.append(Problem("absent-class", str(source.root), message, severity, split))
    return problems


def _some_of(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} other classes" if more > 0 else "")


def _ignored_masks(classes: ClassTable, facts: list[Facts], source: DataSource) -> list[Problem]:
    """Warns of masks from which nothing is learned, unless a whole split consists of them."""
    problems = []
    for split in source.splits:
        masks = [fact for fact in facts if fact.split == split and fact.values]
        idle = [
            fact
            for fact in masks
            if (classes.encode(np.array(list(fact.values or ())), "") == classes.ignore_index).all()
        ]
        if idle and len(idle) < len(masks):
            first = idle[0].sample.mask
            message = f"{first} holds nothing but ignored pixels. Leave the image out, or correct the mask."
            if len(idle) > 1:
                message = (
                    f"{len(idle)} masks of the split {split!r} of {source.root} hold nothing but ignored pixels (the "
                    f"first is {first}). Leave the images out, or correct the masks."
                )
            problems.append(Problem("ignored-mask", str(first), message, "warning", split))
    return problems
