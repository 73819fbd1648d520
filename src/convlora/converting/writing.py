"""Writing samples as a data folder."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convlora.converting.masks import labels_of
from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.colours import Colour
from convlora.data.reading.stored import ImageSource
from convlora.data.sample import Sample
from convlora.data.sources.opening import ALL
from convlora.errors import InputError
from convlora.ordinary import open_ordinary, ordinary
from convlora.pictures.overlay import write_png
from convlora.pictures.palette import class_colours, indexed_image
from convlora.prepare.names import Names, safe_stem

Track = Callable[[Iterable[Any], str], Iterator[Any]]
_SUFFIX_OF = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}


@dataclass
class Written:
    """What was written.

    Args:
        files: For each image, its place in the folder and where it came from.
        left_out: For each sample that could not be used, the image and the reason.
        turned: Number of masks that were turned as EXIF says of their images.
        pixels: Number of pixels of each class.
        ignored: Number of pixels that do not count.
        samples: What was written, as samples, by split.
        sources: Each sample that was read, and the place of its image in the folder.
    """

    files: list[dict[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    turned: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ignored: int = 0
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    sources: list[tuple[Sample, str]] = field(default_factory=list)


def write_samples(
    splits: Mapping[str, Sequence[Sample]],
    classes: ClassTable,
    folder: Path,
    origin: Path,
    track: Track,
    inside: Path | None = None,
) -> Written:
    """Writes `{train,val,test}/{images,masks}/STEM.*`, or `images` and `masks` of undivided data.

    Args:
        splits: The samples.
        classes: What the values in their masks mean.
        folder: Where to write.
        origin: Folder that the places of the images are told relative to.
        track: Shows progress.
        inside: Folder that no image may lie outside of, for sources that are not to be trusted.

    Returns:
        What was written. A sample that cannot be used is left out.
    """
    written = Written(pixels=np.zeros(classes.num_classes, np.int64))
    colours = class_colours(classes)
    todo = [(split, sample) for split, samples in splits.items() for sample in samples]
    names: dict[str, Names] = {}
    for split, sample in track(todo, "Writing images and masks"):
        place = folder if split == ALL else folder / split
        try:
            if inside is not None and isinstance(sample.image, Path):
                _refuse_outside(sample.image, inside)
            labels, was_turned = labels_of(sample, classes)
            stem = names.setdefault(split, Names()).new(safe_stem(sample.name))
            image = _copy(sample.image, place / "images", stem)
        except InputError as error:
            written.left_out.append((_told(sample.image, origin), str(error)))
            continue
        mask = place / "masks" / f"{stem}.png"
        _write_mask(labels, classes, colours, mask)
        counts = np.bincount(labels[labels != classes.ignore_index].ravel(), minlength=classes.num_classes)
        written.pixels += counts
        written.ignored += labels.size - int(counts.sum())
        written.turned += was_turned
        told = image.relative_to(folder).as_posix()
        written.files.append({"image": told, "from": _told(sample.image, origin)})
        written.sources.append((sample, told))
        written.samples.setdefault(split, []).append(Sample(image, mask, stem))
    return written


def classes_text(classes: ClassTable) -> str:
    """The content of classes.json for masks that hold class indices."""
    fields: dict[str, Any] = {"classes": list(classes.names), "ignore_index": classes.ignore_index}
    colours = classes.colors
    # Shades of grey would be taken for the values in the masks.
    if colours is not None and len(set(colours)) == len(colours) and any(len(set(one)) > 1 for one in colours):
        fields["colors"] = [list(colour) for colour in colours]
    return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"


def _copy(source: ImageSource, folder: Path, stem: str) -> Path:
    """Copies an image byte by byte."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Path):
        target = folder / f"{stem}{source.suffix.lower()}"
        try:
            with ordinary(source).open("rb") as stream, open_ordinary(target, "xb") as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise InputError(f"{source} cannot be copied ({error.strerror or error}).") from error
        return target
    loaded = source.load()
    if isinstance(loaded, bytes):
        with Image.open(io.BytesIO(loaded), formats=tuple(_SUFFIX_OF)) as opened:
            suffix = _SUFFIX_OF.get(str(opened.format), ".jpg")  # MPO, what phones call JPEG
        target = folder / f"{stem}{suffix}"
        target.write_bytes(loaded)
        return target
    target = folder / f"{stem}.png"
    loaded.save(target, format="PNG")
    return target


def _write_mask(labels: np.ndarray, classes: ClassTable, colours: Sequence[Colour], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_deep = classes.ignore_index > 255 or classes.num_classes > 256
    picture = Image.fromarray(labels.astype(np.uint16)) if is_deep else indexed_image(labels, colours)
    with open_ordinary(path, "wb") as stream:
        write_png(picture, stream)


def _refuse_outside(image: Path, folder: Path) -> None:
    if not image.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{image} lies outside of the archive, which is not to be trusted. It is left out.")


def _told(image: ImageSource, origin: Path) -> str:
    if isinstance(image, Path) and image.is_relative_to(origin):
        return image.relative_to(origin).as_posix()
    return str(image)
