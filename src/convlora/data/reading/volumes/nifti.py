"""NIfTI files, read by nibabel."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from convlora.data.reading.volumes.damage import reading
from convlora.data.reading.volumes.slicing import DIRECTIONS, Axis
from convlora.data.reading.volumes.volume import (
    EXTRA,
    Placement,
    Volume,
    check_number,
    check_shape,
    oriented,
    seen_shape,
    seen_spacing,
)
from convlora.errors import InputError
from convlora.ordinary import open_ordinary, ordinary
from convlora.storage import SOFTWARE

SUFFIXES = (".nii", ".nii.gz")

_HEADERS = 540  # bytes, of NIfTI-2; NIfTI-1 has 348
_MOST_EXTENSIONS = 16 << 20  # bytes between header and voxels
_BEST_RATIO = 1032  # of zeros that gzip compresses
_MOST_BANDS = 1024  # as of the setting data.bands; times of functional MRI may be more
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


def open_nifti(path: Path, axis: Axis) -> Volume:
    """Opens a NIfTI file. What is compressed is decompressed whole, because nothing else can reach a slice of it.

    Args:
        path: A file `.nii` or `.nii.gz`.
        axis: Which slices.

    Raises:
        InputError: It cannot be read, is no volume, or nibabel is missing.
    """
    with reading(path, "NIfTI"):
        image = _checked(path)
        proxy: Any = image.dataobj
        placement = _placement(path, image, axis)
        shape = seen_shape(placement)
        check_number(str(path), shape[0])
        millimetres = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
        spacing = seen_spacing(placement, millimetres)
        bands = _bands(image.shape)
        raw = proxy.get_unscaled().reshape((*placement.shape, *image.shape[3:4])) if _is_compressed(path) else None
        is_scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
        dtype = np.dtype(np.float64) if is_scaled else np.dtype(proxy.dtype).newbyteorder("=")

    def plane(axis: int, index: int) -> np.ndarray:
        from nibabel.volumeutils import apply_read_scaling

        where: list[Any] = [slice(None)] * 3
        where[axis] = index
        with reading(path, "NIfTI"):
            if raw is not None:
                found = raw[tuple(where)]
                found = apply_read_scaling(found, proxy.slope, proxy.inter) if is_scaled else found
            else:
                found = np.asarray(proxy[(*where, *[slice(None)] * (len(proxy.shape) - 3))])
        return np.asarray(found, dtype).reshape((*found.shape[:2], *([] if bands is None else [bands])))

    return Volume(
        shape,
        spacing,
        dtype,
        lambda index: oriented(placement, plane, index),
        0 if raw is None else raw.nbytes,
        placement,
        bands,
    )


def nifti_facts(path: Path, axis: Axis) -> Volume:
    """What the header says, as a volume whose slices cannot be read; nothing is decompressed but the header.

    Raises:
        InputError: As [`open_nifti`].
    """
    with reading(path, "NIfTI"):
        image = _checked(path)
        placement = _placement(path, image, axis)
        millimetres = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    shape = seen_shape(placement)
    check_number(str(path), shape[0])
    spacing = seen_spacing(placement, millimetres)
    return Volume(shape, spacing, image.get_data_dtype(), _no_slice, 0, placement, _bands(image.shape))


def is_own_nifti(path: Path) -> bool:
    """Whether a file is a result of ours, which may be replaced."""
    try:
        with reading(path, "NIfTI"):
            return _checked(path).header["descrip"].item().startswith(SOFTWARE.encode())
    except InputError:
        return False


def write_nifti(stored: np.ndarray, placement: Placement, path: Path) -> None:
    """Writes labels as a NIfTI file, where the volume lies.

    Texts and extensions of the header are not kept, because they may name the patient.

    Args:
        stored: Labels as the volume is stored, uint8 or uint16.
        placement: Placement of the volume.
        path: Where to; compressed if its name ends in `.gz`.
    """
    nibabel = _nibabel()
    own = placement.header
    kind = nibabel.Nifti2Image if isinstance(own, nibabel.Nifti2Header) else nibabel.Nifti1Image
    if own is None:
        image = kind(stored, placement.affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(placement.affine, "scanner")
        image.set_qform(placement.affine, "scanner")
    else:
        header = own.copy()
        header.extensions.clear()
        for field in ("aux_file", "intent_name", "cal_min", "cal_max", "intent_code"):
            header[field] = np.zeros((), header[field].dtype)
        header.set_data_dtype(stored.dtype)
        image = kind(stored, None, header)
    image.header["descrip"] = SOFTWARE.encode()
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content, 6, mtime=0) if _is_compressed(path) else content)


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _bands(shape: tuple[int, ...]) -> int | None:
    """Channels in the fourth dimension; None: a voxel has one number."""
    return int(shape[3]) if len(shape) > 3 and shape[3] > 1 else None


def _no_slice(index: int) -> np.ndarray:
    raise RuntimeError("only the header was read")


def _checked(path: Path) -> Any:
    """The file as nibabel opens it, after its header was looked at."""
    nibabel = _nibabel()
    with open_ordinary(path) as file:
        on_disk = file.seek(0, 2)
        file.seek(0)
        start = (gzip.GzipFile(fileobj=file) if _is_compressed(path) else file).read(_HEADERS)
    kind: Any = None
    for candidate in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        size = candidate.template_dtype.itemsize
        if len(start) >= size and candidate.may_contain_header(start):
            kind = candidate
            header = candidate(start[:size], check=False)
    if kind is None or header["magic"].item()[:2] not in (b"n+", b"ni"):
        raise InputError(f"{path} is no NIfTI file, or is cut short. Replace the file.")
    if header["magic"].item()[:2] == b"ni":
        raise InputError(f"{path} has its voxels in another file (.hdr and .img). Save it as one .nii.gz.")
    dimensions = [int(length) for length in header["dim"]]
    shape = tuple(dimensions[1 : 1 + max(0, min(7, dimensions[0]))])
    if any(length > 1 for length in shape[4:]) or max((0, *shape[3:4])) > _MOST_BANDS:
        raise InputError(
            f"{path} has {len(shape)} dimensions ({'x'.join(map(str, shape))}), but a volume has three, or four with "
            f"at most {_MOST_BANDS} channels. Save each time as a file of its own."
        )
    if header["datatype"].item() in (128, 2304, 32, 1792, 2048):
        raise InputError(
            f"{path} holds colours or complex numbers, which are not read. Save it with one number a voxel."
        )
    itemsize = header.get_data_dtype().itemsize
    needed = itemsize
    for length in shape[:4]:
        needed *= max(1, length)
    check_shape(str(path), shape[:3], needed if _is_compressed(path) else 0)
    offset = float(header["vox_offset"])
    if not 0 <= offset <= _MOST_EXTENSIONS:
        raise InputError(f"{path} is damaged: its voxels would begin at byte {offset:g}. Replace the file.")
    longest = _BEST_RATIO * on_disk if _is_compressed(path) else on_disk
    if needed + offset > longest:
        raise InputError(f"{path} is cut short: its header promises {needed:,} bytes of voxels. Replace the file.")
    return nibabel.load(ordinary(path), mmap=False)


def _placement(path: Path, image: Any, axis: Axis) -> Placement:
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    affine = np.asarray(image.affine, float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(f"{path} has an affine that is singular or not finite, so it has no directions. Correct it.")
    orientation = ornt_transform(io_orientation(affine), axcodes2ornt(DIRECTIONS[axis]))
    return Placement(tuple(image.shape[:3]), affine, orientation, image.header)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise InputError(f"NIfTI files need the package nibabel. Install what reads volumes: {EXTRA}.") from error
    return nibabel
