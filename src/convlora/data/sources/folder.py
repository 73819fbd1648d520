"""Data sets laid out as folders: `{train,val,test}/{images,masks}/STEM.*`, or `images` and `masks` alone."""

import re
from collections.abc import Sequence
from pathlib import Path

from convlora.data.problem import Problem
from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.slicing import DEFAULT, Slicing
from convlora.data.sample import Sample
from convlora.data.sources.listing import entries, list_images
from convlora.data.sources.volumes import pair_volumes, volumes_in
from convlora.errors import InputError

SPLITS = ("train", "val", "test")
_OTHER_MASK_NAMES = ("masks", "labels", "annotations", "mask", "label", "gt", "targets")
_OTHER_IMAGE_NAMES = ("images", "image", "imgs", "img", "pictures", "photos")
_TEXT = (".txt", ".json", ".xml")
_SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "eval": "val", "evaluation": "val", "test": "test", "testing": "test",
}  # fmt: skip


def is_split_layout(root: Path) -> bool:
    """Whether `root` has at least one of train, val and test with an `images` folder inside."""
    return any((root / split / "images").is_dir() for split in SPLITS)


def is_single_layout(root: Path) -> bool:
    """Whether `root` holds an `images` folder itself."""
    return (root / "images").is_dir()


def has_masks(root: Path) -> bool:
    """Whether there is a folder of masks where this package's own layouts have it."""
    return any((place / "masks").is_dir() for place in (root, *(root / split for split in SPLITS)))


def read_splits(
    root: Path, need_masks: bool, slicing: Slicing = DEFAULT
) -> tuple[dict[str, list[Sample]], list[Problem]]:
    """Pairs images with masks in every split there is.

    Args:
        root: The folder that holds train, val and test.
        need_masks: Whether an image without a mask is a problem.
        slicing: How volumes are cut into slices.

    Returns:
        The samples per split, sorted by name, and what is wrong with the pairing.

    Raises:
        InputError: A split has no masks folder. For test this is only a warning if there are other splits, because
            test images are often published without masks; such a split is left out.
    """
    splits: dict[str, list[Sample]] = {}
    problems: list[Problem] = []
    for split in SPLITS:
        folder = root / split
        if not folder.is_dir():
            continue
        if not (folder / "images").is_dir():
            other = _alike(folder, _OTHER_IMAGE_NAMES)
            message = f"{folder} has no folder called images. {f'Rename {other} to images' if other else 'Add one'}."
            problems.append(Problem("empty-split", str(folder), message, split=split))
            continue
        try:
            samples, found = read_pairs(folder, need_masks, slicing)
        except InputError as error:
            if split != "test" or not splits:
                raise
            problems.append(Problem("missing-pair", str(folder), f"{error} The split is left out.", "warning", split))
            continue
        splits[split] = samples
        problems += [problem.of(split) for problem in found]
    return splits, problems


def read_pairs(folder: Path, need_masks: bool, slicing: Slicing = DEFAULT) -> tuple[list[Sample], list[Problem]]:
    """Pairs `images/STEM.*` with `masks/STEM.*`.

    Args:
        folder: The folder that holds `images` and `masks`.
        need_masks: Whether an image without a mask is a problem.
        slicing: How volumes are cut into slices.

    Returns:
        The pairs, sorted by name, and a problem for each image or mask that has no partner or shares its stem, and for
        whatever else in the two folders is not used.

    Raises:
        InputError: Masks are needed and there is no masks folder, or a folder may not be read.
    """
    masks_folder = folder / "masks"
    if need_masks and not masks_folder.is_dir():
        raise InputError(f"{folder} has no folder called masks. {_masks_remedy(folder)}")
    volumes, problems = volumes_in(folder / "images", entries(folder / "images"), slicing)
    images, found = list_images(folder / "images", {one.path for one in volumes.values()})
    problems += found
    masks: dict[str, Path] = {}
    mask_volumes: dict[str, Stored] = {}
    if masks_folder.is_dir():
        mask_volumes, of_volumes = volumes_in(masks_folder, entries(masks_folder), slicing)
        masks, found = list_images(masks_folder, {one.path for one in mask_volumes.values()})
        problems += of_volumes + found
    lonely = {stem: path for stem, path in masks.items() if stem not in images}
    alike = {_likeness(stem): path for stem, path in lonely.items()}
    explained = set()
    samples, found = pair_volumes(volumes, mask_volumes, need_masks, slicing)
    problems += found
    for stem, image in images.items():
        mask = masks.get(stem)
        if mask is None and need_masks:
            other_mask = alike.get(_likeness(stem))
            remedy = f"Add {masks_folder / stem}.png or remove the image."
            if other_mask is not None:
                remedy = f"Rename {other_mask} to {stem}{other_mask.suffix} if that is its mask."
                explained.add(other_mask)
            problems.append(Problem("missing-pair", str(image), f"{image} has no mask. {remedy}"))
        else:
            samples.append(Sample(image, mask, stem))
    for mask in lonely.values():
        if mask not in explained:
            message = f"{mask} has no image. Add an image of that stem to {folder / 'images'} or remove the mask."
            problems.append(Problem("missing-pair", str(mask), message))
    return samples, problems


def _masks_remedy(folder: Path) -> str:
    """Where the masks of a folder may be."""
    for other in _all_alike(folder, _OTHER_MASK_NAMES):
        if list_images(other)[0]:
            return f"Rename {other} to masks."
        text = next((path for path in entries(other) if path.suffix.lower() in _TEXT), None)
        if text is not None:
            return (
                f"{text} is no mask; YOLO, LabelMe and VOC write such outlines. Export them in COCO's format as "
                f"{folder / 'annotations.json'}, or as one PNG per image into {folder / 'masks'}."
            )
    return "Add one mask per image there, of the same stem."


def _likeness(stem: str) -> str:
    """What the names of an image and its mask share where they differ in case or in a last word, as in `a_mask`."""
    return re.sub(r"[ _-]+[a-z]+$", "", stem.casefold())


def likely_split(name: str) -> str | None:
    """The split that a folder or table is probably meant for: `"test"` for `Test_Set`, `"val"` for `valid2017`."""
    return _SPLIT_WORDS.get(re.sub(r"[ _-]*(set|data|split|\d+)$", "", name.casefold()))


def subfolders(parent: Path) -> list[Path]:
    """The folders in a folder, sorted; none if it does not exist.

    Raises:
        InputError: It may not be read.
    """
    return [path for path in entries(parent) if path.is_dir()] if parent.is_dir() else []


def holds_images(folder: Path) -> bool:
    """Whether there is a folder inside that is called `images`, or nearly so, as far as one may look."""
    try:
        return _alike(folder, _OTHER_IMAGE_NAMES) is not None
    except InputError:  # such as `lost+found` on a disk of its own
        return False


def _all_alike(parent: Path, names: Sequence[str]) -> list[Path]:
    """The folders inside that have some names, in whatever case, in the order of the names."""
    found = [path for path in subfolders(parent) if path.name.casefold() in names]
    return sorted(found, key=lambda path: names.index(path.name.casefold()))


def _alike(parent: Path, names: Sequence[str]) -> Path | None:
    """The first of [`_all_alike`]."""
    return next(iter(_all_alike(parent, names)), None)


def images_above_splits(root: Path) -> Path | None:
    """The first folder of a split in `images`, if there is one: `images/train`, or ADE20K's `images/training`."""
    found = {likely_split(path.name): path for path in reversed(subfolders(root / "images"))}
    return next((found[split] for split in SPLITS if split in found), None)


def layout_remedy(root: Path) -> str | None:
    """What to rename or move where a folder nearly has a known layout; None if nothing looks like it."""
    above = images_above_splits(root)
    if above is not None:
        split = likely_split(above.name) or above.name
        move = f"Move {above} to {root / split / 'images'}"
        masks = _alike(root, _OTHER_MASK_NAMES)
        if masks is not None and (masks / above.name).is_dir():
            return f"{move}, {masks / above.name} to {root / split / 'masks'}, and the other splits likewise."
        return f"{move}, and the other splits and the masks likewise."
    for place in (root / split for split in SPLITS):
        other = _alike(place, _OTHER_IMAGE_NAMES)
        if other is not None:
            return f"Rename {other} to images."
    for folder in subfolders(root):
        wanted = likely_split(folder.name)
        if wanted and wanted != folder.name and subfolders(folder):
            return f"Rename {folder} to {wanted}, and the other splits likewise (train, val, test)."
    other = _alike(root, _OTHER_IMAGE_NAMES)
    return None if other is None else f"Rename {other} to images."
