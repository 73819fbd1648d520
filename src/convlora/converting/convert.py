"""From a data set of another tool to a data folder."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convlora.converting.archives import opened
from convlora.converting.masks import BrightMask
from convlora.converting.options import AUTO, Options
from convlora.converting.page import PAGE, write_overlays
from convlora.converting.splitting import divide
from convlora.converting.writing import Track, Written, classes_text, write_samples
from convlora.data.checking.check import check_data
from convlora.data.checking.facts import MOST_VALUES
from convlora.data.classes.class_table import ClassTable
from convlora.data.classes.classes_json import read_classes_json
from convlora.data.classes.meaning import resolve_classes
from convlora.data.problem import Problem
from convlora.data.reading.images import read_mask
from convlora.data.reading.mask_values import count_values
from convlora.data.sample import Sample
from convlora.data.sources.formats.recognise import BY_NAME
from convlora.data.sources.groups import read_groups, write_groups
from convlora.data.sources.opening import DataSource, open_as, open_data
from convlora.errors import InputError
from convlora.paths import are_same_file, expanded
from convlora.storage import replacing_folder

RECORD = "source.json"
_TITLES = {
    "coco": "COCO annotations",
    "folder": "folders of images and masks",
    "images": "a folder of images and masks",
    "csv": "tables of images and masks",
    "hub": "a Hugging Face data set",
}


@dataclass(frozen=True)
class Converted:
    """What was made.

    Args:
        folder: The data folder.
        format: Name of the form that was read.
        counts: Samples by split; `"all"` for undivided data.
        classes: The classes.
        pixels: Share of each class among the pixels that count.
        notes: What was decided on the way, as sentences.
        problems: What could not be used, or looks wrong.
    """

    folder: Path
    format: str
    counts: dict[str, int]
    classes: ClassTable
    pixels: list[float]
    notes: list[str]
    problems: list[Problem]


def convert(source: str | Path, output: Path, options: Options, track: Track) -> Converted:
    """Reads a data set and writes it as a data folder, with classes.json, source.json and a page of overlays.

    Nothing is written where anything but single files is wrong; the folder appears when it is complete.

    Args:
        source: A folder, a file of annotations, or a zip archive.
        output: The folder to write.
        options: What the user chose.
        track: Shows progress.

    Raises:
        InputError: The form is not known, nothing can be used, or the output holds something.
    """
    given, output = expanded(source), expanded(output).absolute()
    _check_output(given, output)
    with opened(given, output) as place:
        is_unpacked = place != given
        read = _read(place, options)
        unused = _unused(read)
        read, notes = _prepared(read, options)
        notes = [*read.notes, *notes]
        groups = read_groups(read, read.splits, unused)
        classes, problems = _classes(read, track)
        splits, said = divide(read.splits, options.shares, options.seed, options.is_stated, groups)
        notes += [*said, *(["Images of a group in groups.csv stay in one split."] if groups and said else [])]
        origin = place if place.is_dir() else place.parent
        with replacing_folder(output) as folder:
            written = write_samples(splits, classes, folder, origin, track, origin if is_unpacked else None)
            problems += [*_left_out(written), *_unseen(splits)]
            if not written.files:
                first = problems[0].message if problems else "Nothing in it can be used."
                raise InputError(f"{given} holds no usable image with a mask. {first}")
            notes += _turned(written)
            told = [text.replace(str(place), str(given)) for text in notes]
            found = [_told(problem, place, given) for problem in problems]
            counts = {split: len(samples) for split, samples in written.samples.items()}
            (folder / "classes.json").write_text(classes_text(classes), encoding="utf-8")
            about = {"format": read.kind, "source": str(given), "counts": counts, "notes": told}
            lines = {**about, "problems": [one.message for one in found], "files": written.files}
            text = json.dumps(lines, indent=1, ensure_ascii=False, default=str) + "\n"
            (folder / RECORD).write_text(text, encoding="utf-8", errors="backslashreplace")
            if groups:
                write_groups(folder, [(told, groups.get(id(sample), "")) for sample, told in written.sources])
            write_overlays(folder, written.samples, classes, told)
        total = max(1, int(written.pixels.sum()))
        shares = [round(float(pixels) / total, 6) for pixels in written.pixels.tolist()]
        plain = replace(classes, label_map=None)  # the masks that were written hold class indices
        return Converted(output, read.kind, counts, plain, shares, told, found)


def _check_output(source: Path, output: Path) -> None:
    if output == Path.cwd() or are_same_file(source, output):
        raise InputError("--output is the folder you are in, or the source itself. Name a new folder.")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"{output} exists and is not empty. Choose another --output, or remove it.")


def _read(place: Path, options: Options) -> DataSource:
    if options.format in BY_NAME:
        return open_as(place, BY_NAME[options.format], options.reading)
    if options.format == AUTO and options.reading.suffix is not None:
        return open_as(place, BY_NAME["instances" if options.instances else "pairs"], options.reading)
    read = open_data(place, reading=options.reading)
    if options.instances and read.kind != "instances":
        raise InputError(
            f"--instances is for masks of numbered objects, and {place} is read as {title_of(read.kind)}. Give "
            "--format instances if it is such."
        )
    if options.format == "coco" and read.kind != "coco":
        raise InputError(f"{place} holds no COCO annotations; it looks like {title_of(read.kind)}. Leave out --format.")
    if options.format == "folder" and read.kind not in ("folder", "images", "csv"):
        raise InputError(
            f"{place} holds no images/ and masks/; it looks like {title_of(read.kind)}. Leave out --format."
        )
    notes = read.notes if read.kind in BY_NAME else [f"{place} is read as {title_of(read.kind)}.", *read.notes]
    return replace(read, notes=notes)


def title_of(kind: str) -> str:
    """What a form is called in sentences."""
    return BY_NAME[kind].title if kind in BY_NAME else _TITLES.get(kind, kind)


def _prepared(read: DataSource, options: Options) -> tuple[DataSource, list[str]]:
    """The samples with masks, made of two classes if a threshold is given."""
    splits: dict[str, list[Sample]] = {
        split: [sample for sample in samples if sample.mask is not None] for split, samples in read.splits.items()
    }
    if options.threshold is None:
        return replace(read, splits=splits), []
    if read.classes is not None:
        raise InputError(
            f"--threshold is for masks that are pictures, and {title_of(read.kind)} name their classes themselves. "
            "Leave it out."
        )
    bright = {
        split: [replace(sample, mask=BrightMask(sample.mask, options.threshold)) for sample in samples if sample.mask]
        for split, samples in splits.items()
    }
    note = f"Mask pixels of grey {options.threshold} and more are foreground."
    return replace(read, splits=bright, classes=_two_classes(read.classes_json), classes_json=None), [note]


def _two_classes(classes_json: Path | None) -> ClassTable:
    """Background and foreground, by the names and colours of a classes.json."""
    if classes_json is None:
        return ClassTable(("background", "foreground"))
    named = read_classes_json(classes_json)
    if len(named.names) != 2:
        raise InputError(
            f"--threshold makes two classes, and {classes_json} names {len(named.names)}. Leave out --threshold, or "
            "name two classes there."
        )
    return ClassTable(named.names, colors=named.colors)


def _unused(read: DataSource) -> list[str]:
    """Images that lie there and are not converted."""
    alone = [str(sample.image) for samples in read.splits.values() for sample in samples if sample.mask is None]
    return [*alone, *(problem.path for problem in read.problems)]


def _classes(read: DataSource, track: Track) -> tuple[ClassTable, list[Problem]]:
    """The classes, and what is wrong with single files as far as it is known."""
    if read.classes is not None:
        return read.classes, list(read.problems)
    values: set[int] = set()
    masks = [sample.mask for samples in read.splits.values() for sample in samples if sample.mask is not None]
    for mask in track(masks, "Reading masks"):
        with contextlib.suppress(InputError):  # said when it is to be written
            values.update(count_values(read_mask(mask), MOST_VALUES))
    with contextlib.suppress(InputError):
        return resolve_classes(values, read.classes_json, read.root), list(read.problems)
    # A few masks may be at fault.
    report = check_data(read, full=True, progress=track, leave_out=True)
    if report.classes is None:
        reasons = [problem.message for problem in (*report.problems, *report.skipped) if problem.severity == "error"]
        raise InputError(
            (reasons[0] if reasons else f"{read.root} has no masks whose values could be explained.")
            + " If the masks are pictures of two classes, give --threshold 128."
        )
    return report.classes, list(read.problems)


def _left_out(written: Written) -> list[Problem]:
    return [
        Problem("left-out", image, f"{image} is left out. {reason}", "warning") for image, reason in written.left_out
    ]


def _unseen(splits: dict[str, list[Sample]]) -> list[Problem]:
    """Objects that draw no pixel."""
    found = [
        f"{name} of {sample.image}"
        for samples in splits.values()
        for sample in samples
        for name in getattr(sample.mask, "unseen", {}).values()
    ]
    if not found:
        return []
    what = f"{found[0]} covers" if len(found) == 1 else f"{len(found):,} objects (the first is {found[0]}) cover"
    message = f"{what} no pixel: too small, outside of the image, or without an area."
    return [Problem("unseen-annotation", found[0], message, "warning")]


def _turned(written: Written) -> list[str]:
    if not written.turned:
        return []
    if written.turned == 1:
        return ["1 mask was turned to fit its image, which EXIF says is stored lying on a side."]
    return [f"{written.turned} masks were turned to fit their images, which EXIF says are stored lying on a side."]


def _told(problem: Problem, place: Path, given: Path) -> Problem:
    """The same in names that the user knows: archives are unpacked somewhere else.

    It is no error any more: the data were written without what it is about.
    """
    return replace(
        problem,
        severity="warning",
        path=problem.path.replace(str(place), str(given)),
        message=problem.message.replace(str(place), str(given)),
    )


def summary(made: Converted) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "data": str(made.folder),
        "format": made.format,
        "counts": made.counts,
        "classes": made.classes.to_dict(),
        "class_shares": made.pixels,
        "notes": made.notes,
        "problems": [problem.to_dict() for problem in made.problems],
        "page": str(made.folder / PAGE),
    }
