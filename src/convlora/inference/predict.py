"""Predictions for many files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from convlora.data.classes import ClassTable
from convlora.data.images import read_image
from convlora.errors import InputError
from convlora.inference.evaluate import batches
from convlora.inference.files import SOFTWARE, Job
from convlora.inference.legend import with_legend
from convlora.inference.palette import class_colours, indexed_image, overlay
from convlora.inference.segmenter import Segmenter
from convlora.inference.shares import read_shares, write_shares
from convlora.storage import make_folder, replacing_file


def run_jobs(
    segmenter: Segmenter, jobs: Sequence[Job], *, batch_size: int = 1, progress: Callable[[int], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Segments images and writes the results, yielding a description of each.

    An image that cannot be read does not stop the others. At the end `shares.json` is written beside the results.

    Args:
        segmenter: The model.
        jobs: What to do.
        batch_size: Images at a time.
        progress: Called with the number of images just done.

    Yields:
        For each image: `image`, `mask`, `overlay` (if made), `size` (height, width) and `shares`, the share of its
        pixels of each class; or `image` and `error`.
    """
    classes, output = segmenter.classes, jobs[0].mask.parent if jobs else None
    shares = read_shares(output, classes) if output is not None else {}
    for batch in batches(jobs, batch_size):
        opened: list[tuple[Job, Image.Image]] = []
        for job in batch:
            try:
                opened.append((job, read_image(job.image, segmenter.intensity)))
            except InputError as error:
                yield {"image": str(job.image), "error": str(error)}
        maps = segmenter.predict_maps([image for _, image in opened]) if opened else []
        for (job, image), semantic_map in zip(opened, maps):
            counts = np.bincount(semantic_map.ravel(), minlength=classes.num_classes)
            own = {name: float(n / counts.sum()) for name, n in zip(classes.names, counts)}
            _write(job, image, semantic_map, segmenter)
            shares[job.mask.stem] = own
            yield {
                "image": str(job.image),
                "mask": str(job.mask),
                **({"overlay": str(job.overlay)} if job.overlay is not None else {}),
                "size": list(semantic_map.shape),
                "shares": own,
            }
        if progress is not None:
            progress(len(batch))
    if output is not None and shares:
        write_shares(output, classes, shares)


def picture(image: Image.Image, semantic_map: np.ndarray, classes: ClassTable) -> Image.Image:
    """The image with its classes tinted; of several classes those that occur are named below it.

    Args:
        image: RGB.
        semantic_map: `(H, W)` of the image's size; what has the ignore value stays as it is and is not counted.
        classes: The classes.
    """
    colours = class_colours(classes)
    known = semantic_map != classes.ignore_index
    drawn = overlay(image, np.where(known, semantic_map, 0), colours, classes.background, known=known)
    if classes.num_classes == 2:
        return drawn
    counts = np.bincount(semantic_map[known], minlength=classes.num_classes)
    entries = [
        (colours[index], f"{classes.names[index]} {100 * counts[index] / counts.sum():.1f}%")
        for index in np.flatnonzero(counts)
        if index != classes.background
    ]
    return with_legend(drawn, entries)


def _write(job: Job, image: Image.Image, semantic_map: np.ndarray, segmenter: Segmenter) -> None:
    make_folder(job.mask.parent)
    _save_png(indexed_image(semantic_map, class_colours(segmenter.classes)), job.mask)
    if job.overlay is not None:
        _save_png(picture(image, semantic_map, segmenter.classes), job.overlay)


def _save_png(image: Image.Image, path: Path) -> None:
    made_by = PngInfo()
    made_by.add_text("Software", SOFTWARE)
    with replacing_file(path) as temporary:
        image.save(temporary, format="PNG", optimize=image.mode == "P", pnginfo=made_by)
