"""Predictions for many files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from convlora.data.images import read_image
from convlora.errors import InputError
from convlora.inference.evaluate import batches
from convlora.inference.files import SOFTWARE, Job
from convlora.inference.palette import indexed_image, overlay
from convlora.inference.segmenter import Prediction, Segmenter
from convlora.storage import make_folder, replacing_file


def run_jobs(
    segmenter: Segmenter, jobs: Sequence[Job], *, batch_size: int = 1, progress: Callable[[int], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Segments images and writes the results, yielding a description of each.

    An image that cannot be read does not stop the others.

    Args:
        segmenter: The model.
        jobs: What to do.
        batch_size: Images at a time.
        progress: Called with the number of images just done.

    Yields:
        For each image: `image`, `mask`, `overlay` (if made), `size` (height, width) and `shares`, the share of its
        pixels of each class; or `image` and `error`.
    """
    for batch in batches(jobs, batch_size):
        opened: list[tuple[Job, Image.Image]] = []
        for job in batch:
            try:
                opened.append((job, read_image(job.image, segmenter.intensity)))
            except InputError as error:
                yield {"image": str(job.image), "error": str(error)}
        predictions = segmenter.predict_batch([image for _, image in opened]) if opened else []
        for (job, image), prediction in zip(opened, predictions):
            _write(job, image, prediction)
            counts = np.bincount(prediction.semantic_map.ravel(), minlength=segmenter.classes.num_classes)
            yield {
                "image": str(job.image),
                "mask": str(job.mask),
                **({"overlay": str(job.overlay)} if job.overlay is not None else {}),
                "size": list(prediction.semantic_map.shape),
                "shares": {name: float(n / counts.sum()) for name, n in zip(segmenter.classes.names, counts)},
            }
        if progress is not None:
            progress(len(batch))


def _write(job: Job, image: Image.Image, prediction: Prediction) -> None:
    make_folder(job.mask.parent)
    _save_png(indexed_image(prediction.semantic_map), job.mask)
    if job.overlay is not None:
        _save_png(overlay(image, prediction.semantic_map), job.overlay)


def _save_png(image: Image.Image, path: Path) -> None:
    made_by = PngInfo()
    made_by.add_text("Software", SOFTWARE)
    with replacing_file(path) as temporary:
        image.save(temporary, format="PNG", optimize=image.mode == "P", pnginfo=made_by)
