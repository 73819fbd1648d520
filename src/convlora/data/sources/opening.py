"""Opening a data set, whatever its form."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from convlora.data.classes.class_table import ClassTable
from convlora.data.problem import Problem
from convlora.data.reading.stored import volume_of
from convlora.data.reading.volumes.slices import VolumeSlice
from convlora.data.reading.volumes.slicing import DEFAULT, Slicing
from convlora.data.sample import Sample
from convlora.data.sources.coco_files import any_annotations, find_annotations, is_coco
from convlora.data.sources.folder import (
    SPLITS,
    has_masks,
    images_above_splits,
    is_single_layout,
    is_split_layout,
    layout_remedy,
    read_pairs,
    read_splits,
)
from convlora.data.sources.formats.found import Reading
from convlora.data.sources.formats.recognise import Format, recognise
from convlora.data.sources.hub import is_hub_id, is_saved_dataset, read_hub
from convlora.data.sources.listing import entries
from convlora.data.sources.no_layout import inner_data, lonely_images
from convlora.data.sources.table import has_columns, read_table
from convlora.data.sources.unused import tables_in, unused_splits
from convlora.errors import InputError
from convlora.paths import expanded

__all__ = ["DataSource", "Problem", "Sample", "open_data"]

ALL = "all"  # the one split of data that come undivided

_FORMS = (
    "Expected {train,val,test}/{images,masks}/, or images/ and masks/, or train.csv with columns image,label, or COCO "
    "annotations, or a saved Hugging Face data set, or an export of YOLO, LabelMe or another labelling tool."
)


@dataclass
class DataSource:
    """The samples of a data set, by split.

    Args:
        root: The folder of the data set, or the CSV file that was asked for.
        kind: `"folder"` for split folders, `"images"` for one folder of images and masks, `"csv"` for tables,
            `"coco"` for COCO's JSON, `"hub"` for Hugging Face data sets; else the name of a form of `formats`.
        splits: The samples of train, val and test as far as they exist, or of the single split `"all"`.
        classes_json: The file that names the classes, if there is one.
        notes: Sentences about decisions made on the way, to be shown to the user.
        problems: What is wrong with the pairing of images and masks; such samples are not in `splits`.
        classes: The classes, where the form of the data states them.
        files: The file that lists each split, where there is one.
    """

    root: Path
    kind: str
    splits: dict[str, list[Sample]]
    classes_json: Path | None
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    classes: ClassTable | None = None
    files: dict[str, Path] = field(default_factory=dict)

    def split(self, name: str) -> list[Sample]:
        """Returns the samples of one split; undivided data answer for `"test"`.

        Raises:
            InputError: There is no such split, or it is empty.
        """
        chosen = ALL if name == "test" and name not in self.splits and ALL in self.splits else name
        if chosen not in self.splits:
            there_are = ", ".join(self.splits) or "none"
            raise InputError(f"{self.root} has no split {name!r}; there are: {there_are}. Choose one with --split.")
        if not self.splits[chosen]:
            raise InputError(f"The split {chosen!r} of {self.root} is empty. Add samples to it.")
        return self.splits[chosen]

    def only(self, name: str) -> "DataSource":
        """The data set reduced to one split, so that faults of the others do not matter; see `split`."""
        samples = self.split(name)
        problems = [problem for problem in self.problems if problem.split in (None, name, ALL)]
        return replace(self, splits={name: samples}, notes=list(self.notes), problems=problems)

    def train_val(
        self, seed: int, val_fraction: float = 0.1, groups: Mapping[int, str] | None = None
    ) -> tuple[list[Sample], list[Sample]]:
        """Returns training and validation samples, holding some out when there is no val split.

        Slices of a volume, and samples of a group, are alike. They are held out together.

        Args:
            seed: Decides which samples are held out; the same seed always holds out the same ones.
            val_fraction: Fraction of the samples to hold out, at least one sample; 0: none, all are trained on. With
                volumes or groups it is a fraction of these.
            groups: Names of groups by the `id` of their samples, see [`convlora.data.sources.groups.read_groups`].

        Returns:
            The two lists, without overlap, each in the order of the source.

        Raises:
            InputError: There is no train split, or it has too few samples to hold one out, or there is a val split
                although nothing is to be validated.
        """
        samples = self.split(self._trained_on())
        if self.splits.get("val"):
            if val_fraction == 0:
                raise InputError(
                    f"data.val_fraction=0 trains on everything, but {self.root} has a val split. Leave that out, or "
                    "move the images and masks of val into train."
                )
            return samples, self.split("val")
        if val_fraction == 0:
            self._note(f"All {len(samples)} samples are trained on, and none is held out to tell the best epoch.")
            return samples, []
        noun, units = ("group", self._units(samples, groups)) if groups else ("volume", self._units(samples, {}))
        if len(units) < len(samples):
            return self._hold_out(samples, units, noun, seed, val_fraction)
        if len(samples) < 2:
            raise InputError(
                f"{self.root} has {len(samples)} sample to train on and no val split. "
                "Add a val split, or samples so that one can be held out."
            )
        count = min(len(samples) - 1, max(1, round(len(samples) * val_fraction)))
        held_out = set(np.random.default_rng(seed).permutation(len(samples))[:count].tolist())
        self._note(
            f"{self.root} has no val split, so {count} of its {len(samples)} samples "
            f"{'is' if count == 1 else 'are'} held out for validation (seed {seed})."
        )
        train = [sample for index, sample in enumerate(samples) if index not in held_out]
        return train, [samples[index] for index in sorted(held_out)]

    def volume_kinds(self) -> frozenset[str]:
        """The kinds of volumes whose slices are samples: `"nifti"`, `"dicom"`, `"stack"`."""
        images = (sample.image for samples in self.splits.values() for sample in samples)
        return frozenset(image.stored.kind for image in images if isinstance(image, VolumeSlice))

    @staticmethod
    def _units(samples: list[Sample], groups: Mapping[int, str]) -> list[list[Sample]]:
        """Samples of one group or one volume together; any other image stands alone."""
        units: dict[object, list[Sample]] = {}
        for place, sample in enumerate(samples):
            group, volume = groups.get(id(sample)), volume_of(sample.image)
            key = place if volume is None else ("volume", volume)
            units.setdefault(key if group is None else ("group", group), []).append(sample)
        return list(units.values())

    def _hold_out(
        self, samples: list[Sample], units: list[list[Sample]], noun: str, seed: int, val_fraction: float
    ) -> tuple[list[Sample], list[Sample]]:
        """[`train_val`] of samples that must not be parted."""
        if len(units) < 2:
            parts = "slices" if noun == "volume" else "images"
            raise InputError(
                f"{self.root} has one {noun} to train on and no val split, and its {parts} are too alike to be held "
                f"out from each other. Add a val split, or another {noun}."
            )
        count = min(len(units) - 1, max(1, round(len(units) * val_fraction)))
        chosen = np.random.default_rng(seed).permutation(len(units))[:count].tolist()
        held_out = {id(sample) for index in chosen for sample in units[index]}
        which = f" ({len(held_out)} of {len(samples)} images)" if noun == "group" else ""
        self._note(
            f"{self.root} has no val split, so {count} of its {len(units)} {noun}s{which} "
            f"{'is' if count == 1 else 'are'} held out for validation (seed {seed})."
        )
        train = [sample for sample in samples if id(sample) not in held_out]
        return train, [sample for sample in samples if id(sample) in held_out]

    def pooled(self) -> list[tuple[str, Sample]]:
        """Returns what may be trained on or validated with, in one list, for folds.

        Returns:
            Each sample of train and val, or of undivided data, with the split it comes from. Where both splits have a
            name, the split stands before it, so that all names are different.

        Raises:
            InputError: There is no train split.
        """
        splits = [self._trained_on(), *(["val"] if self.splits.get("val") else [])]
        samples = [(split, sample) for split in splits for sample in self.split(split)]
        names = Counter(sample.name for _, sample in samples)
        return [
            (split, sample if names[sample.name] == 1 else replace(sample, name=f"{split}__{sample.name}"))
            for split, sample in samples
        ]

    def _trained_on(self) -> str:
        if "train" not in self.splits and ALL not in self.splits:
            there_are = ", ".join(self.splits)
            raise InputError(f"{self.root} has no split 'train'; there are: {there_are}. Add one to train on.")
        return "train" if "train" in self.splits else ALL

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def open_data(
    path: Path | str, *, need_masks: bool = True, reading: Reading | None = None, slicing: Slicing = DEFAULT
) -> DataSource:
    """Finds out which form a data set has and lists its samples; no image is read.

    The forms are a folder `{train,val,test}/{images,masks}/STEM.*`; a folder with train.csv, val.csv and test.csv of
    columns `image,label`, which win over folders; a CSV file (train.csv brings val.csv and test.csv beside it, any
    other name stands for undivided data); a folder with `images` and `masks`, undivided; COCO annotations, as a
    JSON file or a folder with them; a Hugging Face data set, saved to disk or on the Hub; and what other tools write,
    see `formats`.

    Args:
        path: The folder or file, or the id of a data set on the Hub.
        need_masks: Whether images without masks are problems; if not, their `mask` is `None`.
        reading: What the user says about data of other tools.
        slicing: How volumes are cut into slices; other forms than folders hold none.

    Returns:
        The samples, with every problem of pairing collected in `problems`.

    Raises:
        InputError: There is nothing at the path that could be used as a data set.
    """
    root = expanded(path)
    if not os.path.exists(root):  # noqa: PTH110 - Path.exists raises for names that are too long
        if is_hub_id(str(path)) and not root.parent.exists():
            return _from_hub(str(path), need_masks)
        raise InputError(f"{root} does not exist. Give a folder or a CSV file. {_FORMS}")
    if root.is_file():
        return _open_file(root, need_masks, reading)
    entries(root)  # a folder that may not be read is named as such
    if is_saved_dataset(root):
        return _from_hub(root, need_masks)
    tables = {split: root / f"{split}.csv" for split in SPLITS if (root / f"{split}.csv").is_file()}
    if any(has_columns(table, need_masks) for table in tables.values()):
        return _with_unused(_from_tables(root, tables, need_masks), root, need_masks)
    source = _open_folder(root, need_masks, reading, slicing)
    if source is not None:
        source.problems += [_unused_table(table) for table in tables.values()]
        return source
    if tables:
        return _from_tables(root, tables, need_masks)  # says which columns are missing
    listed = tables_in(root, need_masks)
    remedy = layout_remedy(root) or (f"Give {listed[0]} itself, or rename it to train.csv." if listed else None)
    remedy = remedy or inner_data(root, need_masks) or lonely_images(root) or _FORMS
    raise InputError(f"{root} has no data set layout that is known. {remedy}")


def _open_folder(root: Path, need_masks: bool, reading: Reading | None, slicing: Slicing) -> DataSource | None:
    """The data set of a folder without tables, if its layout is known."""
    annotations = find_annotations(root)
    if annotations and not any((root / split / "masks").is_dir() for split in SPLITS):
        return _from_coco(root, annotations)
    if need_masks and not has_masks(root):
        form = recognise(root)
        if form is not None:
            return open_as(root, form, reading)
    if is_split_layout(root):
        splits, problems = read_splits(root, need_masks, slicing)
        return _with_unused(_source(root, "folder", splits, problems, root), root, need_masks)
    if need_masks and not (root / "masks").is_dir():  # nothing else could be meant
        annotations = any_annotations(root)
        if annotations:
            return _from_coco(root, annotations)
    if is_single_layout(root) and images_above_splits(root) is None:
        samples, found = read_pairs(root, need_masks, slicing)
        source = _source(root, "images", {ALL: samples}, [problem.of(ALL) for problem in found], root)
        return _with_unused(source, root, need_masks)
    return None


def open_as(root: Path, form: Format, reading: Reading | None = None) -> DataSource:
    """Lists the samples of a data set that a labelling tool or another trainer wrote.

    Args:
        root: The folder or file.
        form: Its form.
        reading: What the user says about it.

    Raises:
        InputError: It does not have that form, or nothing in it can be used.
    """
    found = form.read(root, reading or Reading())
    folder = root if root.is_dir() else root.parent
    notes = [f"{root} is read as {form.title}, because {form.sign}.", *found.notes]
    splits = dict(found.splits)
    if ALL in splits and len(splits) > 1:
        rest = splits.pop(ALL)
        are = "1 image is in no split and is" if len(rest) == 1 else f"{len(rest)} images are in no split and are"
        notes.append(f"{are} taken for train.")
        splits["train"] = [*splits.get("train", []), *rest]
    source = _source(root, form.name, splits, found.problems, folder)
    if found.classes is not None and source.classes_json is not None:
        notes.append(f"{source.classes_json} is not used: {form.title} name their classes themselves.")
        source = replace(source, classes_json=None)
    return replace(source, classes=found.classes, notes=notes)


def _with_unused(source: DataSource, folder: Path, need_masks: bool) -> DataSource:
    source.problems += unused_splits(folder, source.kind, source.splits, need_masks)
    return source


def _unused_table(table: Path) -> Problem:
    message = (
        f"{table} is not used, because its first line does not name the columns image and label in UTF-8. "
        "Correct it, or remove the file."
    )
    return Problem("unused-file", str(table), message, "warning")


def _from_hub(name: Path | str, need_masks: bool) -> DataSource:
    splits, notes = read_hub(name, need_masks)
    if not any(splits.values()):
        raise InputError(f"{name} holds no usable sample. {' '.join(notes)}".rstrip())
    folder = Path(name)
    return replace(_source(folder, "hub", splits, [], folder), notes=notes)


def _from_coco(root: Path, files: dict[str, Path]) -> DataSource:
    from convlora.data.sources.coco import class_table, read_annotations, read_coco  # pycocotools draws polygons

    annotations = {split: read_annotations(path) for split, path in files.items()}
    classes, index, notes = class_table(list(annotations.values()))
    splits: dict[str, list[Sample]] = {}
    problems: list[Problem] = []
    for split, one in annotations.items():
        splits[split], found = read_coco(one, classes, index)
        problems += [problem.of(split) for problem in found]
    source = _source(root, "coco", splits, problems, root if root.is_dir() else root.parent)
    if source.classes_json is not None:
        notes.append(f"{source.classes_json} is not used: COCO annotations name their classes themselves.")
    return replace(source, classes=classes, classes_json=None, notes=notes, files=files)


def _open_file(path: Path, need_masks: bool, reading: Reading | None) -> DataSource:
    if path.suffix.lower() in (".json", ".xml", ".yaml", ".yml"):
        form = None if is_coco(path) else recognise(path)
        if form is not None:
            return open_as(path, form, reading)
    if path.suffix.lower() == ".zip":
        raise InputError(f"{path} is an archive. Unpack it, or give: convlora data convert {path} --output DATA")
    if path.suffix.lower() == ".json":
        return _from_coco(path, {ALL: path})
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise InputError(f"{path} is neither a folder nor a CSV or COCO file. {_FORMS}")
    if path.name == "train.csv":
        tables = {split: path.with_name(f"{split}.csv") for split in SPLITS}
        tables = {split: table for split, table in tables.items() if table.is_file()}
        return _with_unused(_from_tables(path, tables, need_masks), path.parent, need_masks)
    return _from_tables(path, {ALL: path}, need_masks)


def _from_tables(root: Path, tables: dict[str, Path], need_masks: bool) -> DataSource:
    splits: dict[str, list[Sample]] = {}
    problems: list[Problem] = []
    for split, table in tables.items():
        if split == "test" and splits and has_columns(table, need_masks=False) and not has_columns(table, need_masks):
            # Test images are often published without masks; that is no reason not to train.
            message = f"{table} has no column label. The split is left out."
            problems.append(Problem("missing-pair", str(table), message, "warning", split))
            continue
        samples, found = read_table(table, need_masks)
        splits[split] = samples
        problems += [problem.of(split) for problem in found]
    return _source(root, "csv", splits, problems, root if root.is_dir() else root.parent)


def _source(
    root: Path, kind: str, splits: dict[str, list[Sample]], problems: list[Problem], folder: Path
) -> DataSource:
    if not any(splits.values()):
        first = sorted(problems, key=lambda problem: problem.severity)[:1]  # errors before warnings
        raise InputError(f"{root} holds no usable sample. " + (first[0].message if first else _FORMS))
    classes_json = folder / "classes.json"
    is_there = os.path.lexists(classes_json)  # a folder or a dead link of that name is an error, not a file less
    return DataSource(root, kind, splits, classes_json if is_there else None, problems=problems)
