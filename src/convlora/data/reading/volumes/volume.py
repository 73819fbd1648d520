"""A volume of any file format, seen as a stack of slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psutil
from PIL import Image

from convlora.errors import InputError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

EXTRA = "pip install 'convlora[volumes]'"
_LARGEST_AXIS = 1 << 20  # voxels
_LARGEST_NUMBER = 100_000  # slices; each becomes a sample


@dataclass(frozen=True)
class Placement:
    """Where the voxels of a volume lie, so that labels can be written as they are stored.

    Attributes:
        shape: As stored.
        affine: (4, 4), from stored indices to millimetres right, front and up (RAS+).
        orientation: For nibabel: from stored axes to slices, rows and columns.
        header: That of a NIfTI file.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    orientation: np.ndarray
    header: Nifti1Header | None = None


@dataclass(frozen=True)
class Volume:
    """A stack of slices.

    Attributes:
        shape: (slices, height, width).
        spacing: Between neighbouring voxels in these directions, in millimetres; None: unknown.
        dtype: Type of the values.
        read: Reads a slice, `(H, W)`, `(H, W, 3)` in colour, or `(H, W, bands)`.
        nbytes: Memory that it holds.
        placement: Where it lies; None: the file does not say.
        bands: Numbers of a voxel that are no colours, such as the sequences of an MRI scan; None: it has one number, or
            a colour.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    dtype: np.dtype
    read: Callable[[int], np.ndarray]
    nbytes: int = 0
    placement: Placement | None = None
    bands: int | None = None


def oriented(placement: Placement, plane: Callable[[int, int], np.ndarray], index: int) -> np.ndarray:
    """A slice of a stored volume.

    Args:
        placement: Placement of the volume.
        plane: Reads a stored plane by its axis and index, `(a, b)` or `(a, b, bands)`.
        index: Index of the slice.

    Returns:
        `(H, W)`, or `(H, W, bands)`.
    """
    places, flips = placement.orientation[:, 0].astype(int), placement.orientation[:, 1]
    axis = int(np.flatnonzero(places == 0)[0])
    found = plane(axis, index if flips[axis] > 0 else placement.shape[axis] - 1 - index)
    first, second = (other for other in range(3) if other != axis)
    if flips[first] < 0:
        found = found[::-1]
    if flips[second] < 0:
        found = found[:, ::-1]
    return found if places[first] < places[second] else found.swapaxes(0, 1)


def seen_shape(placement: Placement) -> tuple[int, int, int]:
    """(slices, height, width) of a stored volume."""
    places = placement.orientation[:, 0].astype(int).tolist()
    first, second, third = (placement.shape[places.index(place)] for place in range(3))
    return first, second, third


def seen_spacing(placement: Placement, millimetres: float = 1.0) -> tuple[float, float, float]:
    """Millimetres between neighbouring slices, rows and columns."""
    lengths = np.sqrt((placement.affine[:3, :3] ** 2).sum(axis=0)) * millimetres
    places = placement.orientation[:, 0].astype(int).tolist()
    first, second, third = (float(lengths[places.index(place)]) for place in range(3))
    return first, second, third


def seen_affine(placement: Placement) -> np.ndarray:
    """(4, 4), from (slice, row, column) to millimetres right, front and up."""
    from nibabel.orientations import inv_ornt_aff

    found: np.ndarray = placement.affine @ inv_ornt_aff(placement.orientation, placement.shape)
    return found


def as_stored(labels: np.ndarray, placement: Placement) -> np.ndarray:
    """Labels (slices, height, width) in the order in which the voxels of the volume are stored."""
    from nibabel.orientations import apply_orientation

    places, flips = placement.orientation[:, 0].astype(int), placement.orientation[:, 1]
    back = np.empty((3, 2))
    for stored, place in enumerate(places.tolist()):
        back[place] = stored, flips[stored]
    found: np.ndarray = apply_orientation(labels, back)
    return found.reshape(placement.shape)


def check_shape(name: str, shape: tuple[int, ...], in_memory: int) -> None:
    """Refuses a volume whose header states a size that cannot be, before memory is taken for it.

    Args:
        name: Name of the file, for messages.
        shape: Three lengths.
        in_memory: Bytes of memory that reading it takes.

    Raises:
        InputError: It has no voxels, or too many.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{name} has the shape {'x'.join(map(str, shape))}, which is no volume. Replace the file.")
    most = 2 * (Image.MAX_IMAGE_PIXELS or 1 << 62)
    if max(shape) > _LARGEST_AXIS or max(a * b for a, b in zip(shape, shape[1:] + shape[:1])) > most:
        raise InputError(f"{name} is too large: its shape is {'x'.join(map(str, shape))}. Cut it into parts.")
    if in_memory > psutil.virtual_memory().available:
        raise InputError(f"{name} does not fit into memory: it has {in_memory / 1e9:.1f} GB. Cut it into parts.")


def check_number(name: str, slices: int) -> None:
    """Refuses a volume of more slices than anybody has.

    Raises:
        InputError: There are too many.
    """
    if slices > _LARGEST_NUMBER:
        raise InputError(f"{name} has {slices:,} slices, and at most {_LARGEST_NUMBER:,} are read. Cut it into parts.")
