"""Segmenting volumes slice by slice into files of volumes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from convlora.data.reading.images import is_image_file
from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.slices import slices_of
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.reading.volumes.volume import Volume, as_stored
from convlora.data.sources.volumes import volume_at, volume_name
from convlora.devices import default_batch
from convlora.errors import InputError
from convlora.inference.files.plan import is_own_result
from convlora.inference.segmenter import Segmenter
from convlora.links import is_plain_file
from convlora.paths import are_same_file, expanded
from convlora.pictures.palette import class_colours
from convlora.reporting import Reporter
from convlora.storage import SOFTWARE, make_folder, replacing_file

SUFFIXES = {"nifti": ".nii.gz", "dicom": ".nii.gz", "stack": ".tif"}


@dataclass(frozen=True)
class VolumeJob:
    """A volume to segment.

    Attributes:
        stored: The volume.
        name: What it is called.
        mask: Where its labels go.
    """

    stored: Stored
    name: str
    mask: Path


def collect_volumes(patterns: Sequence[str], slicing: Slicing) -> list[Stored]:
    """Lists the volumes meant by files, folders and glob patterns, each once; none if they mean images.

    Args:
        patterns: A folder is a DICOM series, or holds volumes.
        slicing: How the run reads volumes.

    Raises:
        InputError: If both are meant.
    """
    volumes: dict[Stored, None] = {}
    image: Path | None = None
    for pattern in patterns:
        path = expanded(pattern)
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long
            own = volume_at(path, slicing)
            places = [path] if own is not None else sorted(path.iterdir())
        elif os.path.isfile(path):  # noqa: PTH113
            places = [path]
        else:
            places = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207
        for place in places:
            stored = volume_at(place, slicing)
            if stored is not None:
                volumes[stored] = None
            elif is_image_file(place):
                image = place
    if volumes and image is not None:
        raise InputError(
            f"{next(iter(volumes)).path} is a volume and {image} an image. Predict volumes and images separately."
        )
    return list(volumes)


def plan_volumes(volumes: Sequence[Stored], output: Path) -> list[VolumeJob]:
    """Decides on the names of the results: `NAME.nii.gz`, or `NAME.tif` of TIFF files.

    Raises:
        InputError: If two have the same name, or a result would replace a volume or something that is not ours.
    """
    jobs: dict[str, VolumeJob] = {}
    for stored in volumes:
        name = volume_name(stored.path)
        mask = output / f"{name}{SUFFIXES[stored.kind]}"
        other = jobs.get(mask.name.casefold())
        if other is not None:
            raise InputError(
                f"{other.stored.path} and {stored.path} would both be written to {mask}. "
                "Predict them into different folders."
            )
        if are_same_file(mask, stored.path):
            raise InputError(f"The result for {stored.path} would replace it. Choose another --output.")
        if os.path.lexists(mask) and not (is_plain_file(mask) and _is_own(mask)):
            raise InputError(f"{mask} exists and was not made by convlora. Choose another --output.")
        jobs[mask.name.casefold()] = VolumeJob(stored, name, mask)
    return list(jobs.values())


def segment_volumes(
    segmenter: Segmenter, jobs: Sequence[VolumeJob], slicing: Slicing, batch_size: int | None, reporter: Reporter
) -> Iterator[dict[str, Any]]:
    """Segments volumes slice by slice and writes their labels. One that cannot be read does not stop the others.

    Args:
        segmenter: The model.
        jobs: What to do.
        slicing: How the run reads volumes.
        batch_size: Slices at a time; None: 8 on a GPU, 1 on a CPU.
        reporter: Receives progress.

    Yields:
        For each volume: `image`, `mask`, `size` (slices, height, width), and `shares`; or `image` and `error`.
    """
    for job in jobs:
        try:
            labels = segment_volume(segmenter, job.stored, slicing, batch_size, reporter)
            write_labels(labels, job, segmenter)
        except InputError as error:
            yield {"image": str(job.stored.path), "error": str(error)}
            continue
        counts = np.bincount(labels.ravel(), minlength=segmenter.classes.num_classes)
        yield {
            "image": str(job.stored.path),
            "mask": str(job.mask),
            "size": list(labels.shape),
            "shares": {name: float(n / labels.size) for name, n in zip(segmenter.classes.names, counts)},
        }


def segment_volume(
    segmenter: Segmenter,
    stored: Stored,
    slicing: Slicing,
    batch_size: int | None = None,
    reporter: Reporter | None = None,
) -> np.ndarray:
    """The classes of a volume, `(slices, height, width)` of [`Segmenter.map_type`].

    Raises:
        InputError: If it cannot be read.
    """
    volume = stored.open()
    labels = np.empty(volume.shape, segmenter.map_type)
    slices = slices_of(stored, volume, slicing, volume_name(stored.path))
    step = default_batch(segmenter.device) if batch_size is None else batch_size
    for start in range(0, len(slices), step):
        batch = slices[start : start + step]
        for place, found in enumerate(segmenter.predict_maps(batch), start):
            labels[place] = found
        if reporter is not None:
            reporter.predict_step(len(batch))
    return labels


def write_labels(labels: np.ndarray, job: VolumeJob, segmenter: Segmenter) -> None:
    """Writes labels where their volume lies: as a NIfTI file of its shape and affine, or as a TIFF file of its pages.

    Raises:
        InputError: If the folder cannot be written to.
    """
    volume: Volume = job.stored.open()
    make_folder(job.mask.parent)
    with replacing_file(job.mask) as temporary:
        if volume.placement is not None:
            from convlora.data.reading.volumes.nifti import write_nifti

            write_nifti(as_stored(labels, volume.placement), volume.placement, temporary)
            return
        colours = np.full((256, 3), 255, np.uint8)
        own = np.array(class_colours(segmenter.classes), np.uint8)[:256]
        colours[: len(own)] = own
        is_small = labels.dtype == np.uint8
        with tifffile.TiffWriter(temporary, bigtiff=labels.nbytes > 3 << 30) as file:
            for page in labels:
                file.write(
                    page,
                    photometric="palette" if is_small else "minisblack",
                    colormap=(colours.T.astype(np.uint16) * 257) if is_small else None,
                    compression="zlib",
                    metadata=None,
                    software=SOFTWARE,
                )


def _is_own(path: Path) -> bool:
    if path.name.lower().endswith((".nii", ".nii.gz")):
        from convlora.data.reading.volumes.nifti import is_own_nifti

        return is_own_nifti(path)
    return is_own_result(path)
