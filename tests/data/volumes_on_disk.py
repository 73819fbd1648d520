"""Small volumes in files, for tests."""

import nibabel
import numpy as np
import pydicom
from nibabel.orientations import axcodes2ornt, ornt_transform
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SPACING = (0.8, 1.1, 3.0)  # to the right, to the front, up


def affine(oblique=False):
    made = np.diag([*SPACING, 1.0])
    if oblique:
        angle = 0.2
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        made[:3, :3] = turn @ made[:3, :3]
    made[:3, 3] = [-7.5, 3.25, 40]
    return made


def write_nifti(path, values, codes="RAS", oblique=False):
    """Writes values, given in the order right, front, up, as stored in another orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine(oblique))
    image.header.set_xyzt_units("mm")
    image = image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes)))
    image.to_filename(path)
    return path


def write_dicom(
    folder, values, *, step=2.5, skip=(), series=None, syntax=ExplicitVRLittleEndian, slope=1, intercept=-1024
):
    """Writes a series of axial slices, values (slices, rows, columns) of uint16, in a shuffled order of names."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid() if series is None else series
    names = np.random.default_rng(2).permutation(len(values))
    for index, plane in enumerate(values):
        if index in skip:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = syntax
        file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        file.SeriesInstanceUID, file.Modality, file.PatientName = series, "CT", "Nobody^Knows"
        file.Rows, file.Columns = plane.shape
        file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
        file.PixelSpacing = [1.5, 0.75]  # between rows, between columns
        file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        file.ImagePositionPatient = [-20.0, -30.0, 100 + step * index]
        file.RescaleSlope, file.RescaleIntercept = slope, intercept
        file.PixelData = plane.astype("<u2").tobytes()
        pydicom.dcmwrite(folder / f"im{names[index]:03d}.dcm", file, enforce_file_format=True)
    return folder


def spheres(shape=(30, 34, 8), seed=0):
    """A bright ball in noise, values as those of CT, and its mask; in the order right, front, up."""
    random = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * np.array([1.0, 1.0, 3.0])
    centre = np.array([15, 17, 12]) + random.uniform(-4, 4, 3)
    mask = ((places - centre) ** 2).sum(-1) < random.uniform(7, 9) ** 2
    return (np.where(mask, 60, -80) + random.normal(0, 15, shape)).astype(np.int16), mask.astype(np.uint8)
