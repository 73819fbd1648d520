"""Pascal VOC: JPEGImages, SegmentationClass and lists in ImageSets/Segmentation, as VOC, CVAT and LabelMe write them.

Source: the VOC development kit; the writer of datumaro, which CVAT uses (`labelmap.txt`, with lines
`label:color_rgb:parts:actions`); LabelMe's `labelme2voc.py` (`class_names.txt`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.problem import Problem
from convlora.data.reading.colours import Colour, colour_value
from convlora.data.reading.images import IMAGE_SUFFIXES, read_mask
from convlora.data.reading.signatures import damaged
from convlora.data.reading.stored import ImageSource
from convlora.data.sources.folder import likely_split
from convlora.data.sources.formats.found import ALL, BACKGROUND, Found, Reading, counted, listed_images, named_samples
from convlora.data.sources.listing import entries
from convlora.errors import InputError, shown, shown_list
from convlora.ordinary import ordinary
from convlora.untrusted import read_text

NAMES = (
    BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_IGNORED = ("ignored", "ignore", "void", "__ignore__")
BORDER: Colour = (224, 224, 192)  # of objects, which VOC does not score
_LARGEST = 1 << 26  # bytes of a list


@dataclass(frozen=True)
class ColouredMask:
    """A mask whose colours, not its numbers, say what is what; the palette of a palette image is asked.

    Args:
        path: The file.
        colours: Class index, or ignore value, of each colour.
        lines: The colours in the order of the list of labels, which some tools number masks by.
    """

    path: Path
    colours: tuple[tuple[Colour, int], ...]
    lines: tuple[Colour, ...] = ()

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> Image.Image:
        """Draws the class indices.

        Raises:
            InputError: It cannot be read, or holds a colour that stands for nothing.
        """
        try:
            with Image.open(ordinary(self.path), formats=("PNG", "BMP", "TIFF", "JPEG")) as opened:
                is_palette = opened.mode == "P"
                colours = np.asarray(opened.convert("RGB")) if is_palette else None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(damaged(str(self.path))) from error
        if colours is None:
            values = read_mask(self.path).astype(np.int64)
            if values.max(initial=0) < 1 << 24:  # grey: stored with one channel
                values = self._of_grey(values)
        else:
            values = np.full(colours.shape[:2], colour_value((0, 0, 0)), np.int64)
            for channel, shift in enumerate((16, 8, 0)):
                values += colours[..., channel].astype(np.int64) << shift
        meant = {colour_value(colour): label for colour, label in self.colours}
        found, place = np.unique(values, return_inverse=True)
        unknown = [value for value in found.tolist() if value not in meant]
        if unknown:
            one = unknown[0]
            colour = (one >> 16 & 255, one >> 8 & 255, one & 255)
            raise InputError(f"{self.path} holds the colour {colour}, which the list of labels does not name.")
        labels = np.array(
            [meant[value] for value in found.tolist()], np.uint16 if max(meant.values()) > 255 else np.uint8
        )
        return Image.fromarray(labels[place.reshape(values.shape)])

    def _of_grey(self, values: np.ndarray) -> np.ndarray:
        """Colours of a mask with one channel: shades that the list names, or numbers of its lines."""
        shades: np.ndarray = colour_value((0, 0, 0)) + values * 0x10101
        known = {colour_value(colour) for colour, _ in self.colours}
        if known.issuperset(np.unique(shades).tolist()) or values.max(initial=0) >= len(self.lines):
            return shades
        return np.array([colour_value(colour) for colour in self.lines], np.int64)[values]


def voc_root(root: Path) -> Path | None:
    """The folder that holds SegmentationClass: the one given, or VOCdevkit/VOC2012 in it."""
    for folder in (root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))):
        if (folder / "SegmentationClass").is_dir() or (folder / "SegmentationClassPNG").is_dir():
            return folder
    return None


def is_voc(root: Path) -> bool:
    """Whether there is a folder SegmentationClass."""
    return root.is_dir() and voc_root(root) is not None


def read_voc(root: Path, reading: Reading) -> Found:
    """Reads the data set.

    Raises:
        InputError: There are no images, no masks, or no pair of them.
    """
    folder = voc_root(root) if root.is_dir() else None
    if folder is None:
        raise InputError(f"{root} has no folder SegmentationClass. Give the folder that holds it.")
    masks_folder = next(
        path for path in (folder / "SegmentationClass", folder / "SegmentationClassPNG") if path.is_dir()
    )
    images_folder = next((path for path in (folder / "JPEGImages", folder / "images") if path.is_dir()), None)
    if images_folder is None:
        raise InputError(
            f"{folder} has no folder JPEGImages. Export it again with the images ('Save images' in CVAT), or add them."
        )
    images = {path.stem: path for path in listed_images(images_folder)}
    # CVAT keeps subfolders of a task.
    for sub in (path for path in entries(images_folder) if path.is_dir()):
        images.update({f"{sub.name}/{path.stem}": path for path in listed_images(sub)})
    masks = {path.stem: path for path in listed_images(masks_folder)}
    for sub in (path for path in entries(masks_folder) if path.is_dir()):
        masks.update({f"{sub.name}/{path.stem}": path for path in listed_images(sub)})
    classes, colours, lines, notes = _classes(folder)
    problems: list[Problem] = []
    lists = _lists(folder)
    both = sorted(images.keys() & masks.keys())
    if not both:
        raise InputError(f"No image of {images_folder} has a mask of its name in {masks_folder}.")
    members = lists or {ALL: both}
    pairs: dict[str, list[tuple[ImageSource, ImageSource]]] = {}
    missing, listed = [], set()
    for split, stems in members.items():
        for stem in stems:
            if stem in listed:
                continue
            listed.add(stem)
            if stem in images and stem in masks:
                mask: ImageSource = ColouredMask(masks[stem], colours, lines) if colours else masks[stem]
                pairs.setdefault(split, []).append((images[stem], mask))
            else:
                missing.append(stem)
    text = ("is listed but lacks its image or mask", "names are listed but lack their image or mask")
    problems += counted("missing-pair", missing, *text, "They are left out.")
    unlisted = [images[stem] for stem in both if stem not in listed]
    text = ("is in no list of ImageSets/Segmentation", "images are in no list of ImageSets/Segmentation")
    problems += counted("unlisted", unlisted, *text, "They are left out. Add them to train.txt, val.txt or test.txt.")
    alone = [path for stem, path in images.items() if stem not in masks and stem not in listed]
    text = ("has no mask", "images have no mask")
    problems += counted("missing-mask", alone, *text, "They are left out.")
    lonely = [path for stem, path in masks.items() if stem not in images and stem not in listed]
    text = ("has no image", "masks have no image")
    problems += counted("missing-pair", lonely, *text, "They are left out. Add the images.")
    if not pairs:
        raise InputError(f"No image that the lists of {folder / 'ImageSets' / 'Segmentation'} name has a mask.")
    return Found({split: named_samples(some, images_folder) for split, some in pairs.items()}, classes, problems, notes)


def _lists(folder: Path) -> dict[str, list[str]]:
    """Names by split; trainval.txt and CVAT's default.txt stand for undivided data."""
    place = folder / "ImageSets" / "Segmentation"
    found: dict[str, list[str]] = {}
    undivided: list[str] = []
    for path in entries(place) if place.is_dir() else []:
        if path.suffix.lower() != ".txt" or not path.is_file():
            continue
        try:
            lines = [line.strip() for line in read_text(path, _LARGEST).splitlines()]
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({shown(error)}).") from error
        stems = [_stem(line) for line in lines if line]
        split = likely_split(path.stem)
        if split:
            found.setdefault(split, []).extend(stems)
        else:
            undivided += stems
    if found:
        return found
    return {ALL: undivided} if undivided else {}


def _stem(line: str) -> str:
    return line[: -len(Path(line).suffix)] if Path(line).suffix.lower() in IMAGE_SUFFIXES else line


_Meaning = tuple[ClassTable | None, tuple[tuple[Colour, int], ...], tuple[Colour, ...], list[str]]


def _classes(folder: Path) -> _Meaning:
    """The classes, and the meaning of colours where a list of labels states them."""
    if (folder / "labelmap.txt").is_file():
        return _labelmap(folder / "labelmap.txt")
    named = folder / "class_names.txt"
    if named.is_file():
        try:
            lines = [line.strip() for line in read_text(named).splitlines()]
        except (OSError, ValueError) as error:
            raise InputError(f"{named} cannot be read ({shown(error)}).") from error
        names = [line for line in lines if line and line not in _IGNORED]
        names = [BACKGROUND if name == "_background_" else name for name in names]
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"{named} names the classes {shown_list(names)}; at least two must differ.")
        return ClassTable(tuple(names)), (), (), []
    if (folder / "classes.json").is_file():
        return None, (), (), []
    note = f"{folder} has no labelmap.txt, so the numbers in its masks are taken for VOC's own 20 classes."
    return ClassTable(NAMES), (), (), [note]


def _labelmap(path: Path) -> _Meaning:
    try:
        rows: list[tuple[str, Colour]] = []
        for line in map(str.strip, read_text(path, 1 << 20).splitlines()):
            if not line or line.startswith("#"):
                continue
            name, colour = line.rsplit(":", 3)[:2] if line.count(":") >= 3 else line.split(":")[:2]
            red, green, blue = (int(part) for part in colour.split(","))
            if not all(0 <= part <= 255 for part in (red, green, blue)):
                raise ValueError(f"{colour} is no colour")
            rows.append((name.strip(), (red, green, blue)))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no list of lines such as crack:250,50,83:: ({shown(error)}). Export it again."
        ) from error
    ignored = [(name, colour) for name, colour in rows if name.lower() in _IGNORED]
    kept = [(name, colour) for name, colour in rows if name.lower() not in _IGNORED]
    kept.sort(key=lambda row: row[0].lower() != BACKGROUND)  # the background first, the others as they come
    names, colours = [name for name, _ in kept], [colour for _, colour in kept]
    if len(names) < 2 or len(set(names)) < len(names) or len(set(colours)) < len(colours):
        raise InputError(f"{path} needs at least two labels with names and colours that all differ.")
    ignore = 255 if len(names) <= 255 else 65535
    meant = [(colour, index) for index, colour in enumerate(colours)]
    meant += [(colour, ignore) for _, colour in ignored]
    meant += [(BORDER, ignore)] if BORDER not in dict(meant) else []
    lines = tuple(colour for _, colour in rows)
    return ClassTable(tuple(names), ignore, colors=tuple(colours)), tuple(meant), lines, []
