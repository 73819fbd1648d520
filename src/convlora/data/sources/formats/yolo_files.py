"""Where the images and label files of a YOLO data set are.

Source: ultralytics (`ultralytics/data/utils.py`: `img2label_paths`, `check_det_dataset`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from convlora.data.reading.images import is_image_file
from convlora.data.sources.folder import likely_split, subfolders
from convlora.data.sources.formats.found import ALL, files_below, images_below, listed_images, split_folders
from convlora.data.sources.listing import entries
from convlora.errors import InputError, shown
from convlora.untrusted import UnreadableError, read_text, read_yaml

NAME_FILES = ("classes.txt", "obj.names", "labels.txt")
LARGEST_TEXT = 1 << 26  # bytes of one label file
_LOOKED_AT = 50  # label files
_BOX, _TRIANGLE = 5, 7  # numbers in a line, the class among them


def find_yaml(root: Path) -> Path | None:
    """The file that describes the data set: data.yaml, or the only YAML file with names in the folder."""
    if root.is_file():
        return root
    files = [path for path in entries(root) if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    for path in sorted(files, key=lambda path: path.stem.lower() not in ("data", "dataset")):
        try:
            fields = read_yaml(path)
        except (OSError, UnreadableError):
            continue
        if isinstance(fields, dict) and "names" in fields:
            return path
    return None


def is_yolo(root: Path) -> bool:
    """Whether label files lie in `labels`, or those of polygons beside images; of a file, whether it is YAML."""
    if root.is_file():
        return root.suffix.lower() in (".yaml", ".yml")
    if any(True for _ in _in_labels(root)) and find_yaml(root) is not None:
        return True
    return _any_label(_in_labels(root), _BOX) or _any_label(_beside(root), _TRIANGLE)


def is_beside(root: Path) -> bool:
    """Whether label files of any kind lie beside images; boxes may also accompany masks, so this is asked last."""
    return root.is_dir() and _any_label(_beside(root), _BOX)


def _any_label(paths: Iterator[Path], least: int) -> bool:
    filled = (path for path in paths if path.is_file() and path.stat().st_size)  # empty: an image without objects
    return any(starts_like_label(path, least) for path in islice(filled, _LOOKED_AT))


def _in_labels(root: Path) -> Iterator[Path]:
    folders = [root / "labels"]
    for folder in subfolders(root):
        folders.append(folder / "labels")
        if folder.name == "labels":
            folders += subfolders(folder)
    for folder in folders:
        for path in entries(folder) if folder.is_dir() else []:
            if path.suffix.lower() == ".txt":
                yield path


def _beside(root: Path) -> Iterator[Path]:
    folders = [root]
    for folder in subfolders(root):
        folders.append(folder)
        if folder.name == "images" or likely_split(folder.name):
            folders += subfolders(folder)
    for folder in folders:
        files = entries(folder)
        images = {path.stem for path in files if is_image_file(path)}
        for path in files:
            if path.suffix == ".txt" and path.stem in images:
                yield path


def starts_like_label(path: Path, least: int = _BOX) -> bool:
    """Whether some line, of the first ones, has a class and so many numbers, the class among them."""
    try:
        lines = read_text(path, LARGEST_TEXT).splitlines()[:_LOOKED_AT]
        return any(_is_label(line.split(), least) for line in lines)
    except (OSError, ValueError, OverflowError):
        return False


def _is_label(parts: list[str], least: int) -> bool:
    return len(parts) >= least and float(parts[0]).is_integer() and all(-1 <= float(part) <= 2 for part in parts[1:])


def images_by_split(folder: Path, fields: dict[str, Any]) -> dict[str, list[Path]]:
    """The images of each split, or of all data.

    Args:
        folder: Folder of the data set.
        fields: Fields of its data.yaml; may be empty.
    """
    found: dict[str, list[Path]] = {}
    for key in ("train", "val", "valid", "test"):
        split = likely_split(key) or key
        given = fields.get(key)
        places = given if isinstance(given, list) else [given] if given else []
        images = [image for place in places for image in _images_at(folder, fields.get("path"), str(place))]
        if images and split not in found:
            found[split] = list(dict.fromkeys(images))
    if found:
        return found
    # What data.yaml says may be about another machine.
    above = {split: path / "images" for split, path in split_folders(folder).items() if (path / "images").is_dir()}
    below = split_folders(folder / "images")
    beside = {} if listed_images(folder) else split_folders(folder)
    for folders in (above, below, beside):
        listed = {split: images for split, path in folders.items() if (images := images_below(path))}
        if listed:
            return listed
    undivided = folder / "images"
    return {ALL: images_below(undivided if undivided.is_dir() else folder)}


def _images_at(folder: Path, base: Any, written: str) -> list[Path]:
    """The images of a folder or list that data.yaml names, looked for as ultralytics does."""
    written = written.replace("\\", "/")
    bases = [folder / str(base), folder] if base else [folder]
    names = [written]
    while names[-1].startswith("../"):  # Roboflow writes one level too many
        names.append(names[-1][3:])
    for name in names:
        for one in bases:
            place = one / name
            try:
                if place.is_dir():
                    return images_below(place)
                if place.is_file() and place.suffix.lower() == ".txt":
                    return [path for path in _listed(place, one) if path.is_file()]
            except (OSError, ValueError):
                continue
    return []


def _listed(table: Path, base: Path) -> Iterator[Path]:
    """The images that a text file lists, one a line; `./` stands for the folder of the list."""
    try:
        lines = read_text(table, LARGEST_TEXT).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{table} cannot be read ({shown(error)}).") from error
    for line in filter(None, map(str.strip, lines)):
        for parent in (table.parent, base):
            path = parent / line.replace("\\", "/")
            if is_image_file(path) and path.is_file():
                yield path
                break


def label_of(image: Path) -> Path:
    """The label file of an image: the last `images` of its path becomes `labels`, or it lies beside the image."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    parallel, beside = Path(*parts).with_suffix(".txt"), image.with_suffix(".txt")
    return beside if beside.is_file() and not parallel.is_file() else parallel


def lonely_labels(images: Iterable[Path], labels: Iterable[Path]) -> list[Path]:
    """Label files without an image.

    Args:
        images: All images.
        labels: Their label files.
    """
    wanted, holds_images = set(labels), {image.parent for image in images}
    found: dict[Path, None] = {}
    for parent in sorted({label.parent for label in wanted}):
        is_mixed = parent in holds_images
        for path in (entries(parent) if is_mixed else files_below(parent)) if parent.is_dir() else []:
            if path.suffix.lower() != ".txt" or path in wanted or path.name in NAME_FILES:
                continue
            if not is_mixed or starts_like_label(path):  # beside images any text may lie
                found[path] = None
    return list(found)
