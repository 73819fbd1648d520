"""DICOM series: folders of slices, read by pydicom."""

from __future__ import annotations

from collections.abc import Sequence
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
from convlora.errors import InputError, shown
from convlora.ordinary import open_ordinary

_PREAMBLE = 132
_DEFLATED = "1.2.840.10008.1.2.1.99"  # could be a bomb, and nobody uses it
_FIELDS = [
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "TransferSyntaxUID",
]
_UNEVEN = 0.05  # of the distance between slices
_TURNED = 1e-3  # of direction cosines


def is_dicom_file(path: Path) -> bool:
    """Whether a file has DICOM's mark."""
    try:
        with open_ordinary(path) as file:
            return bool(file.read(_PREAMBLE)[128:] == b"DICM")
    except OSError:
        return False


def is_dicom_folder(folder: Path) -> bool:
    """Whether the first file of a folder, hidden ones aside, is of DICOM."""
    try:
        names = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != "DICOMDIR")
    except OSError:
        return False
    return bool(names) and names[0].is_file() and is_dicom_file(names[0])


def dicom_facts(folder: Path, axis: Axis) -> Volume:
    """What the headers of a series say, as a volume whose slices cannot be read.

    Raises:
        InputError: As [`open_dicom`].
    """
    return _volume(_placement(folder, _headers(folder), axis), np.dtype(np.float32), _no_slice, 0, str(folder))


def open_dicom(folder: Path, axis: Axis) -> Volume:
    """Reads a series whole. Its values are those after the rescale that the files state, such as Hounsfield units.

    Args:
        folder: Folder of the slices.
        axis: Which slices the volume is cut into; they need not be those that are stored.

    Raises:
        InputError: It cannot be read, or is no single volume, or pydicom or nibabel is missing.
    """
    headers = _headers(folder)
    placement = _placement(folder, headers, axis)
    values = np.empty(placement.shape, np.float32)
    for index, (path, _) in enumerate(headers):
        values[:, :, index] = _pixels(path, placement.shape[:2])

    def plane(axis: int, index: int) -> np.ndarray:
        return np.take(values, index, axis)

    return _volume(placement, values.dtype, lambda index: oriented(placement, plane, index), values.nbytes, str(folder))


def _volume(placement: Placement, dtype: np.dtype, read: Any, nbytes: int, name: str) -> Volume:
    shape = seen_shape(placement)
    check_number(name, shape[0])
    return Volume(shape, seen_spacing(placement), dtype, read, nbytes, placement)


def _no_slice(index: int) -> np.ndarray:
    raise RuntimeError("only the headers were read")


def _headers(folder: Path) -> list[tuple[Path, Any]]:
    """The files of the one series of a folder with their headers, along the direction of its slices."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_dicom_file(path) and path.name != "DICOMDIR":
            found.append((path, _header(path)))
    if not found:
        raise InputError(f"{folder} holds no DICOM files. Name a folder that does.")
    series = {str(header.get("SeriesInstanceUID", "")) for _, header in found}
    if len(series) > 1:
        raise InputError(
            f"{folder} holds {len(series)} DICOM series ({shown(found[0][0].name)} and others). Put the files of each "
            "SeriesInstanceUID into a folder of its own."
        )
    if len(found) < 2:
        raise InputError(f"{folder} holds one DICOM file, and a series has several. Save it as PNG or TIFF instead.")
    with reading(found[0][0], "DICOM"):
        across = _directions(found[0][1])
        normal = np.cross(across[0], across[1])
        for path, header in found:
            if (header.Rows, header.Columns) != (found[0][1].Rows, found[0][1].Columns):
                raise InputError(f"{path} has another size than {found[0][0].name}. Keep slices of one size there.")
            if np.abs(_directions(header) - across).max() > _TURNED or not np.allclose(
                [float(one) for one in header.PixelSpacing], [float(one) for one in found[0][1].PixelSpacing], rtol=1e-3
            ):
                raise InputError(f"{path} lies in another direction or has another spacing than {found[0][0].name}.")
        found.sort(key=lambda one: float(_position(one[1]) @ normal))
    places = np.array([_position(header) @ normal for _, header in found])
    steps = np.diff(places)
    step = float(np.median(steps))
    if step <= 0 or np.abs(steps - step).max() > _UNEVEN * step:
        worst = int(np.abs(steps - step).argmax())
        raise InputError(
            f"The slices of {folder} are not evenly spaced ({found[worst][0].name} and {found[worst + 1][0].name} are "
            f"{steps[worst]:g} mm apart, others {step:g} mm): one may be missing or double. Complete the series."
        )
    return found


def _placement(folder: Path, headers: Sequence[tuple[Path, Any]], axis: Axis) -> Placement:
    try:
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
    except ImportError as error:
        raise InputError(f"DICOM series need the package nibabel. Install what reads volumes: {EXTRA}.") from error
    with reading(headers[0][0], "DICOM"):
        first = headers[0][1]
        shape = (int(first.Columns), int(first.Rows), len(headers))
        check_shape(str(folder), shape, 4 * shape[0] * shape[1] * shape[2])
        rows_apart, columns_apart = (float(one) for one in first.PixelSpacing)
        along_row, along_column = _directions(first)
        affine = np.eye(4)
        affine[:3, 0] = along_row * columns_apart
        affine[:3, 1] = along_column * rows_apart
        affine[:3, 2] = (_position(headers[-1][1]) - _position(first)) / (len(headers) - 1)
        affine[:3, 3] = _position(first)
        affine[:2] *= -1  # DICOM counts to the left and to the back, NIfTI to the right and to the front
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise InputError(f"{folder} states directions or spacings of its slices that cannot be.")
    orientation = ornt_transform(io_orientation(affine), axcodes2ornt(DIRECTIONS[axis]))
    return Placement(shape, affine, orientation)


def _position(header: Any) -> np.ndarray:
    return np.array([float(one) for one in header.ImagePositionPatient], float)


def _directions(header: Any) -> np.ndarray:
    return np.array([float(one) for one in header.ImageOrientationPatient], float).reshape(2, 3)


def _header(path: Path) -> Any:
    with reading(path, "DICOM"):
        with open_ordinary(path) as file:
            meta = _pydicom().filereader.read_file_meta_info(path)
            syntax = meta.get("TransferSyntaxUID", "")
            if syntax == _DEFLATED:
                raise InputError(f"{path} is a deflated DICOM file, which is not read. Save it uncompressed.")
            header = _pydicom().dcmread(file, stop_before_pixels=True, specific_tags=_FIELDS)
        for field in _FIELDS:
            header.get(field)  # values are only now made of their bytes, and what is wrong with them is found
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise InputError(
                f"{path} is a DICOM file of several frames, which is not read. Convert it to NIfTI, as dcm2niix does."
            )
        if int(header.get("SamplesPerPixel", 1)) != 1:
            raise InputError(f"{path} is a DICOM file in colour, which is not read as a slice of a volume.")
        for field in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
            if header.get(field) is None:
                raise InputError(f"{path} does not say its {field}, so its place in a volume is unknown.")
        return header


def _pixels(path: Path, size: Sequence[int]) -> np.ndarray:
    """The values of a slice, (columns, rows), after the rescale."""
    pydicom = _pydicom()
    from pydicom.pixels import apply_rescale, get_decoder

    with reading(path, "DICOM"), open_ordinary(path) as file:
        slice_ = pydicom.dcmread(file)
        syntax = slice_.file_meta.TransferSyntaxUID
        if syntax.is_compressed:
            try:
                is_there = get_decoder(syntax).is_available
            except NotImplementedError:  # pydicom knows no decoder for this syntax at all
                is_there = False
            if not is_there:
                raise InputError(
                    f"{path} is compressed ({syntax.name}), and no decoder for that is installed. Decompress the "
                    "series, as dcmdjpeg and gdcmconv --raw do, or install pylibjpeg with its plug-ins."
                )
        if (int(slice_.Columns), int(slice_.Rows)) != tuple(size):
            raise InputError(f"{path} has changed while it was read. Try again.")
        found = np.asarray(apply_rescale(slice_.pixel_array, slice_))
        if found.shape != (size[1], size[0]):
            raise InputError(f"{path} holds {found.shape} values, which is not the size it states. Replace the file.")
        return found.T


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.filereader
    except ImportError as error:
        raise InputError(f"DICOM files need the package pydicom. Install what reads volumes: {EXTRA}.") from error
    return pydicom
