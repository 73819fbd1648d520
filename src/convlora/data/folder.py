"""Data sets laid out as folders: `{train,val,test}/{images,masks}/STEM.*`, or `images` and `masks` alone."""

from pathlib import Path

from convlora.data.images import is_image_file
from convlora.data.problem import Problem
from convlora.data.sample import Sample
from convlora.errors import InputError

SPLITS = ("train", "val", "test")
_OTHER_MASK_NAMES = ("labels", "annotations", "mask", "label", "gt", "targets")
_OTHER_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


def is_split_layout(root: Path) -> bool:
    """Whether `root` has at least one of train, val and test with an `images` folder inside."""
    return any((root / split / "images").is_dir() for split in SPLITS)


def is_single_layout(root: Path) -> bool:
    """Whether `root` holds an `images` folder itself."""
    return (root / "images").is_dir()


def read_splits(root: Path, need_masks: bool) -> tuple[dict[str, list[Sample]], list[Problem]]:
    """Pairs images with masks in every split there is.

    Args:
        root: The folder that holds train, val and test.
        need_masks: Whether an image without a mask is a problem.

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
            problems.append(Problem("empty-split", str(folder), f"{folder} has no folder called images. Add one."))
            continue
        try:
            samples, found = read_pairs(folder, need_masks)
        except InputError as error:
            if split != "test" or not splits:
                raise
            problems.append(Problem("missing-pair", str(folder), f"{error} The split is left out.", "warning"))
            continue
        splits[split] = samples
        problems += found
    for name, wanted in _OTHER_SPLIT_NAMES.items():
        if (root / name / "images").is_dir():
            message = f"{root / name} is not used. Rename it to {wanted} if it is the {wanted} split."
            problems.append(Problem("unused-folder", str(root / name), message, "warning"))
    return splits, problems


def read_pairs(folder: Path, need_masks: bool) -> tuple[list[Sample], list[Problem]]:
    """Pairs `images/STEM.*` with `masks/STEM.*`.

    Args:
        folder: The folder that holds `images` and `masks`.
        need_masks: Whether an image without a mask is a problem.

    Returns:
        The pairs, sorted by name, and a problem for each image or mask that has no partner or shares its stem.

    Raises:
        InputError: Masks are needed and there is no masks folder.
    """
    masks_folder = folder / "masks"
    if need_masks and not masks_folder.is_dir():
        other = next((name for name in _OTHER_MASK_NAMES if (folder / name).is_dir()), None)
        remedy = f"Rename {folder / other} to masks." if other else "Add one mask per image there, of the same stem."
        raise InputError(f"{folder} has no folder called masks. {remedy}")
    problems: list[Problem] = []
    images = _by_stem(folder / "images", problems)
    masks = _by_stem(masks_folder, problems) if masks_folder.is_dir() else {}
    samples = []
    for stem, image in images.items():
        mask = masks.get(stem)
        if mask is None and need_masks:
            message = f"{image} has no mask. Add {masks_folder / stem}.png or remove the image."
            problems.append(Problem("missing-pair", str(image), message))
        else:
            samples.append(Sample(image, mask, stem))
    for stem, mask in masks.items():
        if stem not in images:
            message = f"{mask} has no image. Add an image of that stem to {folder / 'images'} or remove the mask."
            problems.append(Problem("missing-pair", str(mask), message))
    return samples, problems


def _by_stem(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image_file(path) or not path.is_file():
            continue
        if path.stem in files:
            message = f"{path} and {files[path.stem].name} in the same folder share a stem. Keep one of them."
            problems.append(Problem("duplicate-stem", str(path), message))
        else:
            files[path.stem] = path
    return files
