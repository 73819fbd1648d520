"""Predictions for images too large to be seen at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
import psutil
import torch

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.bands import image_of
from convlora.data.reading.rows import Rows
from convlora.data.transforms import resize_image
from convlora.data.windows import mirrored
from convlora.inference.bands import NOTHING, Band, Wanted, answer_of
from convlora.inference.blending import Pieces, blend
from convlora.inference.outputs import blendable_scores, probabilities_of
from convlora.inference.windows import Grid, Tiles


class WindowModel(Protocol):
    """What segments windows: a [`Segmenter`][convlora.Segmenter]."""

    classes: ClassTable
    image_size: tuple[int, int]
    threshold: float

    @property
    def map_type(self) -> type[np.unsignedinteger]:
        """What semantic maps are made of."""

    def outputs(self, images: Sequence[torch.Tensor]) -> Iterator[tuple[Any, int]]:
        """What the model returns for images `(3, h, w)` uint8 at its size, and their places in that."""


def predict_bands(
    segmenter: WindowModel,
    source: Rows,
    tiles: Tiles,
    *,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Segments an image in windows, handing out its rows as soon as they are final.

    What is in memory grows with the height of a window and the width of the image, but not with the height of the
    image (as far as its format can be read piece by piece).

    Args:
        segmenter: The model.
        source: The image.
        tiles: How to cut it.
        batch_size: Windows at a time.
        progress: Called with the number of windows done and of all.

    Yields:
        Which rows, and their classes `(rows, width)` of [`WindowModel.map_type`], from top to bottom.

    Raises:
        InputError: If the image turns out to be damaged.
        MemoryError: If a row of windows cannot fit into what is free.
    """
    for band in answer_bands(segmenter, source, tiles, batch_size=batch_size, progress=progress):
        yield band.rows, band.semantic_map


def answer_bands(
    segmenter: WindowModel,
    source: Rows,
    tiles: Tiles,
    *,
    batch_size: int = 1,
    wanted: Wanted = NOTHING,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Band]:
    """[`predict_bands`] with probabilities.

    Args:
        segmenter: As there.
        source: As there.
        tiles: As there.
        batch_size: As there.
        wanted: Which probabilities are wanted.
        progress: As there.
    """
    band: Band | None = None
    for rows, columns, scores in score_pieces(segmenter, source, tiles, batch_size, wanted, progress):
        if band is None:
            band = Band.empty(rows, source.width, len(scores), wanted, segmenter.map_type)
        band.put(columns, answer_of(scores, wanted, segmenter.threshold))
        if columns.stop == source.width:
            yield band
            band = None


def score_pieces(
    segmenter: WindowModel,
    source: Rows,
    tiles: Tiles,
    batch_size: int = 1,
    wanted: Wanted = NOTHING,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """The blended scores of an image, piece by piece as they become final, see `convlora.inference.blending.blend`.

    Args:
        segmenter: As of [`predict_bands`].
        source: As there.
        tiles: As there.
        batch_size: As there.
        wanted: What else the caller keeps of a row of windows.
        progress: As there.

    Raises:
        InputError: As there.
        MemoryError: As there.
    """
    window = tiles.window(segmenter.image_size)
    grid = Grid.over((source.height, source.width), window, tiles.overlap, tiles.mirrored)
    needed, free = (
        least_memory(grid, segmenter.classes.num_classes, wanted, source.channels),
        psutil.virtual_memory().available,
    )
    if needed > free:  # asked now, because the system would not refuse it but end the process when it is used
        raise MemoryError(f"a row of windows takes at least {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    yield from blend(grid, _window_scores(segmenter, source, grid, batch_size, progress))


def whole_probabilities(segmenter: WindowModel, source: Rows, tiles: Tiles, batch_size: int = 1) -> np.ndarray:
    """The probabilities of an image that fits into memory.

    Returns:
        `(C, H, W)` float32 as of `convlora.inference.outputs.probabilities_of`: of the foreground, or of each class.

    Raises:
        InputError: As [`predict_bands`].
        MemoryError: As there.
    """
    whole: np.ndarray | None = None
    for rows, columns, scores in score_pieces(segmenter, source, tiles, batch_size):
        if whole is None:
            whole = np.empty((len(scores), source.height, source.width), np.float32)
        whole[:, rows, columns] = probabilities_of(scores).cpu().numpy()
    assert whole is not None  # noqa: S101 - an image has pixels
    return whole


def least_memory(grid: Grid, num_classes: int, wanted: Wanted = NOTHING, channels: int = 3) -> int:
    """Bytes that a row of windows takes at the least: its pixels, twice, and the scores kept for the row below.

    Probabilities that are wanted come on top.
    """
    scores = 1 if num_classes == 2 else num_classes
    reach = max(stop - start for stop, start in zip(grid.down.stops, grid.down.next_starts))
    height = min(grid.down.window, grid.down.length)
    return grid.across.length * ((2 * channels + wanted.bytes_per_pixel(scores)) * height + 4 * scores * reach)


def _window_scores(
    segmenter: WindowModel, source: Rows, grid: Grid, batch_size: int, progress: Callable[[int, int], None] | None
) -> Iterator[Pieces]:
    inputs, done = _inputs(source, grid, segmenter.image_size), 0
    if progress is not None:
        progress(0, len(grid))
    while batch := list(islice(inputs, batch_size)):
        for number, (output, index) in enumerate(segmenter.outputs(batch)):
            if number == 0:
                done += len(batch)
                if progress is not None:
                    progress(done, len(grid))
            yield blendable_scores(output, index, grid.window)


def _inputs(source: Rows, grid: Grid, image_size: tuple[int, int]) -> Iterator[torch.Tensor]:
    """What the model sees of each window, `(C, h, w)` uint8."""
    above, end = np.empty((0, source.width, source.channels), np.uint8), 0
    for top, bottom in grid.rows():
        # Rows that two rows of windows share are read and decoded once.
        kept = above[len(above) - (end - top) :] if end > top else above[:0]
        band = np.concatenate([kept, source.read(max(top, end), bottom)])
        for left, right in grid.columns():
            pixels = band[:, left:right]
            if pixels.shape[:2] != grid.window:
                # A side shorter than the window is continued by its mirror image: stretching it would show the model
                # things of another shape, and a plain ground an edge that is not there.
                pixels = mirrored(pixels, grid.window)
            yield resize_image(image_of(pixels), image_size)
        above, end = band, bottom
