"""Volumes as stacks of slices: NIfTI files, DICOM series and TIFF files of several pages."""
