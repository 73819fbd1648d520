"""From an image file to the file of its semantic map, without ever holding either whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convlora.data.reading.reduced import ReducedMap, reduced_image
from convlora.data.reading.rows import open_rows
from convlora.inference.files.extra_files import open_extras
from convlora.inference.files.extras import Extras
from convlora.inference.files.outcome import Outcome
from convlora.inference.files.plan import Job
from convlora.inference.files.writers import open_map
from convlora.inference.segmenter import Segmenter
from convlora.inference.tiles import answer_bands
from convlora.inference.windows import Tiles
from convlora.pictures.overlay import picture, save_png
from convlora.pictures.palette import class_colours


def segment_in_windows(
    segmenter: Segmenter,
    job: Job,
    tiles: Tiles,
    *,
    batch_size: int = 1,
    plain: bool = False,
    extras: Extras | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Does one job in windows.

    Args:
        segmenter: The model.
        job: The image and where the results go.
        tiles: How to cut it.
        batch_size: Windows at a time.
        plain: Whether the result holds the classes alone, without their colours.
        extras: What is wanted beside the semantic map.
        progress: Called with the number of windows done and of all.

    Returns:
        Size and counts; pixels without data are not counted.

    Raises:
        InputError: If the image cannot be read.
    """
    classes, extras = segmenter.classes, Extras() if extras is None else extras
    counts = np.zeros(classes.num_classes, np.int64)
    nodata = segmenter.value_without_class
    with open_rows(job.image, segmenter.intensity) as source:
        size = (source.height, source.width)
        small = ReducedMap(size, classes.ignore_index) if job.overlay is not None else None
        with (
            open_map(job.mask, size, class_colours(classes), source.reference, nodata, plain) as result,
            open_extras(job, size, classes, extras, source.reference) as files,
        ):
            bands = answer_bands(
                segmenter, source, tiles, batch_size=batch_size, wanted=extras.wanted, progress=progress
            )
            for band in bands:
                rows, semantic_map = band.rows, band.semantic_map
                known = source.known(rows.start, rows.stop) if nodata is not None else None
                files.add(band.answer, known)
                if known is not None:
                    semantic_map[~known] = nodata
                kept = semantic_map if known is None else semantic_map[known]
                counts += np.bincount(kept.ravel(), minlength=classes.num_classes)
                if small is not None:
                    small.add(rows, semantic_map, known)
                result.write(semantic_map)
        if small is not None and job.overlay is not None:
            save_png(picture(reduced_image(source, small.factor), small.pixels, classes), job.overlay)
    return Outcome(size, counts, files.objects, files.uncertainty)
