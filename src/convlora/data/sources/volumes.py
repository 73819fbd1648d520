"""Volumes in the folders of a data set: each is listed as its slices."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np

from convlora.data.problem import Problem
from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.slices import slices_of
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.reading.volumes.volume import Volume, seen_affine
from convlora.data.sample import Sample
from convlora.errors import InputError

NIFTI = (".nii.gz", ".nii")
_APART = 0.1  # of the smallest distance between voxels, by which two volumes may lie apart


def volume_at(path: Path, slicing: Slicing) -> Stored | None:
    """The volume that a file or folder is; None: it is none."""
    name = path.name.lower()
    if name.startswith("."):
        return None
    if path.is_dir():
        from convlora.data.reading.volumes.dicom import is_dicom_folder

        return Stored(path, "dicom", slicing.axis) if is_dicom_folder(path) else None
    if name.endswith(NIFTI):
        return Stored(path, "nifti", slicing.axis)
    if slicing.pages == "slices":
        from convlora.data.reading.volumes.stack import is_stack

        return Stored(path, "stack", slicing.axis) if is_stack(path) else None
    return None


def volume_name(path: Path) -> str:
    """The name of a file without its endings, or that of a folder."""
    name = unicodedata.normalize("NFC", path.name)
    if path.is_dir():
        return name
    ending = next((ending for ending in NIFTI if name.lower().endswith(ending)), path.suffix)
    return name[: len(name) - len(ending)]


def volumes_in(folder: Path, paths: Iterable[Path], slicing: Slicing) -> tuple[dict[str, Stored], list[Problem]]:
    """The volumes among the entries of a folder, by name.

    Args:
        folder: The folder.
        paths: What is in it.
        slicing: How volumes are read.

    Returns:
        The volumes, and a problem for each that shares its name.
    """
    found: dict[str, Stored] = {}
    problems = []
    for path in paths:
        stored = volume_at(path, slicing)
        if stored is None:
            continue
        name = volume_name(path)
        if name in found:
            message = f"{path} and {found[name].path.name} in {folder} share a name. Keep one of them."
            problems.append(Problem("duplicate-stem", str(path), message))
        else:
            found[name] = stored
    return found, problems


def pair_volumes(
    images: dict[str, Stored], masks: dict[str, Stored], need_masks: bool, slicing: Slicing
) -> tuple[list[Sample], list[Problem]]:
    """Pairs volumes with those that are their masks, slice by slice.

    Args:
        images: The volumes by name.
        masks: Likewise.
        need_masks: Whether a volume without a mask is a problem.
        slicing: How they are read.

    Returns:
        A sample for each slice, and a problem for each volume that cannot be used.
    """
    samples: list[Sample] = []
    problems = []
    for name, image in images.items():
        mask = masks.get(name)
        if mask is None and need_masks:
            message = f"{image.path} has no mask. Add a volume called {name} to the masks, or remove the image."
            problems.append(Problem("missing-pair", str(image.path), message))
            continue
        try:
            facts = image.facts()
        except InputError as error:
            problems.append(Problem("unreadable", str(image.path), str(error)))
            continue
        labels = [None] * facts.shape[0]
        if mask is not None:
            try:
                of_mask = mask.facts()
            except InputError as error:
                problems.append(Problem("unreadable", str(mask.path), str(error)))
                continue
            mismatch = _mismatch(image, facts, mask, of_mask)
            if mismatch is not None:
                problems.append(Problem("size-mismatch", str(mask.path), mismatch))
                continue
            labels = slices_of(mask, of_mask, Slicing(slicing.axis, pages=slicing.pages), name)  # type: ignore[assignment]
        slices = slices_of(image, facts, slicing, name)
        samples += [
            Sample(one, label, f"{name}__{one.index + 1:04d}") for one, label in zip(slices, labels, strict=True)
        ]
    for name, mask in masks.items():
        if name not in images:
            message = f"{mask.path} has no image. Add a volume called {name} to the images, or remove the mask."
            problems.append(Problem("missing-pair", str(mask.path), message))
    return samples, problems


def _mismatch(image: Stored, facts: Volume, mask: Stored, of_mask: Volume) -> str | None:
    """What to say if a mask does not lie where its image does, or is none."""
    if of_mask.bands is not None:
        return (
            f"{mask.path} has {of_mask.bands} channels, but a mask has one number a voxel. Save it with three "
            "dimensions."
        )
    if facts.shape != of_mask.shape:
        one, other = ("x".join(map(str, volume.shape)) for volume in (of_mask, facts))
        return (
            f"{mask.path} has {one} voxels (slices x height x width), but its image {image.path} has {other}. "
            "Give both the same shape."
        )
    if facts.placement is None or of_mask.placement is None or facts.spacing is None:
        return None
    corners = np.array([(*corner, 1) for corner in product(*((0, length - 1) for length in facts.shape))])
    apart = (seen_affine(facts.placement) - seen_affine(of_mask.placement)) @ corners.T
    distance = float(np.sqrt((apart[:3] ** 2).sum(axis=0)).max())
    if distance <= _APART * min(facts.spacing):
        return None
    return (
        f"{mask.path} lies elsewhere than its image {image.path}: by their affines a corner is {distance:.3g} mm off. "
        "Resample the mask to the image, or copy the image's affine if only that is wrong."
    )
