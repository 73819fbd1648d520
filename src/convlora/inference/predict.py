"""Predictions for many files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from convlora.data.images import read_image
from convlora.inference.evaluate import batches
from convlora.inference.files import Job
from convlora.inference.palette import indexed_image, overlay
from convlora.inference.segmenter import Segmenter
from convlora.storage import make_folder, replacing_file


def run_jobs(
    segmenter: Segmenter, jobs: Sequence[Job], *, batch_size: int = 1, progress: Callable[[int], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Segments images and writes the results, yielding a description of each.

    Args:
        segmenter: The model.
        jobs: What to do.
        batch_size: Images at a time.
        progress: Called with the number of images just done.

    Yields:
        For each image: `image`, `mask`, `overlay` (if made), `size` (height, width) and `shares`, the share of its
        pixels of each class.
    """
    for batch in batches(jobs, batch_size):
        images = [read_image(job.image, segmenter.intensity) for job in batch]
        for job, image, prediction in zip(batch, images, segmenter.predict_batch(images)):
            make_folder(job.mask.parent)
            with replacing_file(job.mask) as temporary:
                indexed_image(prediction.semantic_map).save(temporary, format="PNG", optimize=True)
            if job.overlay is not None:
                with replacing_file(job.overlay) as temporary:
                    overlay(image, prediction.semantic_map).save(temporary, format="PNG")
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
