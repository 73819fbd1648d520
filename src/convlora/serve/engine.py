"""One thread that owns the models and answers images in batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
import torch

from convlora.data.reading.rows import open_rows
from convlora.data.reading.stored import StoredImage
from convlora.inference.outputs import classes_of, foreground_probability, is_binary
from convlora.inference.segmenter import SeenImage, Segmenter
from convlora.inference.tiles import score_pieces
from convlora.inference.windows import Tiles

_LEVELS = 256  # of probabilities


class Answer(NamedTuple):
    """What a model says about one image.

    Attributes:
        semantic_map: Class of each pixel, `(H, W)` of `Segmenter.map_type`, at the image's own size.
        levels: Levels of a binary run, if asked for: `(H, W)` uint8. The probability of the foreground is above
            `level / 256` and at most `(level + 1) / 256`, so that it is above `k / 256` exactly where the level is at
            least `k`.
    """

    semantic_map: np.ndarray
    levels: np.ndarray | None


class ToBeCut(NamedTuple):
    """An image for a run that was trained on windows.

    Attributes:
        source: Where its bytes are.
        size: The image's own (height, width).
    """

    source: StoredImage
    size: tuple[int, int]


class _Job(NamedTuple):
    run: str
    image: SeenImage | ToBeCut
    wants_levels: bool
    future: Future[Answer]


class Engine:
    """Answers images with several models, one batch at a time.

    Images of one run that wait together are answered together. No image waits for others to come, and the oldest is
    always in the next batch.

    Args:
        segmenters: By the name of the run. Nobody else may call them.
        batch_size: Images at a time, at most; fewer where memory runs out.

    Attributes:
        batches: How many images each batch had, of the last thousand.
    """

    def __init__(self, segmenters: Mapping[str, Segmenter], batch_size: int = 1) -> None:
        self._segmenters, self._batch_size = segmenters, batch_size
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.batches: deque[int] = deque(maxlen=1000)
        self._thread = threading.Thread(target=self._work, name="convlora-models", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def submit(self, run: str, image: SeenImage | ToBeCut, wants_levels: bool = False) -> Future[Answer]:
        """Asks for an answer; cancelling it before its turn saves the work.

        Args:
            run: Name of the run.
            image: As `Segmenter.see` made it, or as it is if the run was trained on windows.
            wants_levels: Whether the probabilities of a binary run are wanted, too.
        """
        future: Future[Answer] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            self._jobs.append(_Job(run, image, wants_levels, future))
            self._changed.notify()
        return future

    def close(self, seconds: float = 5) -> None:
        """Ends the thread; what waits is cancelled."""
        with self._changed:
            self._closed = True
            while self._jobs:
                self._jobs.popleft().future.cancel()
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while batch := self._next_batch():
            self.batches.append(len(batch))
            try:
                self._answer(batch)
            except BaseException as error:  # goes to those who wait; the thread has to live on
                for job in batch:
                    if not job.future.done():
                        job.future.set_exception(error)
            batch.clear()  # or the last answer would stay in memory until the next

    def _next_batch(self) -> list[_Job]:
        """Waits for images, and takes the oldest and others of its run; none when the thread is to end."""
        batch: list[_Job] = []
        with self._changed:
            while not batch:
                while not self._jobs:
                    if self._closed:
                        return []
                    self._changed.wait()
                others: list[_Job] = []
                for job in self._jobs:
                    fits = len(batch) < self._batch_size and (not batch or job.run == batch[0].run)
                    if not fits:
                        others.append(job)
                    elif job.future.set_running_or_notify_cancel():
                        batch.append(job)
                self._jobs = deque(others)
        return batch

    def _answer(self, batch: list[_Job]) -> None:
        segmenter = self._segmenters[batch[0].run]
        seen = [(job, job.image) for job in batch if isinstance(job.image, SeenImage)]
        for job in batch:
            if isinstance(job.image, ToBeCut):
                job.future.set_result(self._in_windows(segmenter, job.image, job.wants_levels))
        outputs = segmenter.outputs([image.pixels for _, image in seen])
        for (job, image), (output, index) in zip(seen, outputs):
            levels = None
            if job.wants_levels and is_binary(output):
                levels = _levels(foreground_probability(output, index, image.size))
            job.future.set_result(Answer(segmenter.map_of(output, index, image.size), levels))

    def _in_windows(self, segmenter: Segmenter, image: ToBeCut, wants_levels: bool) -> Answer:
        """The answer of a run that was trained on windows."""
        semantic_map, levels = np.empty(image.size, segmenter.map_type), None
        tiles = segmenter.tiles or Tiles()
        with open_rows(image.source, segmenter.intensity) as rows:
            for down, across, scores in score_pieces(segmenter, rows, tiles, self._batch_size):
                semantic_map[down, across] = classes_of(scores, segmenter.threshold).cpu().numpy()
                if wants_levels and len(scores) == 1:
                    levels = np.empty(image.size, np.uint8) if levels is None else levels
                    levels[down, across] = _levels(torch.sigmoid(scores[0]))
        return Answer(semantic_map, levels)


def _levels(probability: torch.Tensor) -> np.ndarray:
    """See [`Answer.levels`]; times a power of two, nothing is rounded before it should be."""
    levels = (probability * _LEVELS).ceil_().sub_(1).clamp_(0, _LEVELS - 1)
    return levels.to(torch.uint8).cpu().numpy()
