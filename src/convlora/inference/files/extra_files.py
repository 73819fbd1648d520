"""Writing what is wanted beside the mask of an image, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.geo import GeoReference
from convlora.errors import InputError
from convlora.inference.bands import Answer
from convlora.inference.files.extras import Extras
from convlora.inference.files.pieces import write_piece
from convlora.inference.files.plan import Job
from convlora.inference.files.probability_maps import NO_DATA, ProbabilityWriter, channel_names, open_probabilities
from convlora.inference.uncertain import Levels, Uncertainty
from convlora.measuring.brush import MOST_PIXELS
from convlora.measuring.components import ComponentCollector
from convlora.measuring.scales import scale_of
from convlora.storage import replacing_file

_MOST_COCO_PIXELS = (1 << 32) - 1  # run lengths have 32 bits


class ExtraFiles:
    """The files of one image that are being written.

    Attributes:
        objects: Number of objects, once all rows are there and if they are looked for.
        uncertainty: How uncertain the image is, likewise.
    """

    def __init__(
        self, job: Job, size: tuple[int, int], classes: ClassTable, extras: Extras, reference: GeoReference | None
    ) -> None:
        self.objects: int | None = None
        self.uncertainty: Uncertainty | None = None
        self._job, self._size, self._classes = job, size, classes
        self._extras, self._reference = extras, reference
        self._stack = ExitStack()
        self._probabilities: ProbabilityWriter | None = None
        self._collector: ComponentCollector | None = None
        self._levels = Levels() if extras.rank is not None else None
        for wanted, most, kind in (
            (extras.polygons == "coco" or extras.labels is not None, _MOST_COCO_PIXELS, "COCO"),
            (extras.labels == "labelstudio", MOST_PIXELS, "Label Studio"),
        ):
            if wanted and size[0] * size[1] > most:
                raise InputError(f"{job.image} has too many pixels for a {kind} file. Cut it into pieces.")
        if extras.measures:
            keep_spans = extras.polygons is not None or extras.labels is not None
            self._collector = ComponentCollector(size, classes.background, keep_spans)

    def add(self, answer: Answer, known: np.ndarray | None) -> None:
        """Adds rows.

        Args:
            answer: What the model says about them.
            known: Which pixels have data, `(rows, width)` bool; None: all.
        """
        probabilities = answer.probabilities
        if self._job.probabilities is not None and probabilities is not None:
            if self._probabilities is None:
                names = channel_names(self._classes, is_binary=len(probabilities) == 1)
                opened = open_probabilities(self._job.probabilities, self._size, names, self._reference)
                self._probabilities = self._stack.enter_context(opened)
            if known is not None:
                probabilities = np.where(known, probabilities, np.uint16(NO_DATA))
            self._probabilities.write(probabilities)
        if self._collector is not None:
            self._collector.add(answer.semantic_map, known, answer.probability)
        if self._levels is not None and answer.uncertainty is not None:
            self._levels.add(answer.uncertainty, known)

    def finish(self) -> None:
        """Writes what needs all rows."""
        if self._levels is not None:
            self.uncertainty = self._levels.summary()
        if self._collector is None:
            return
        objects, self._collector = self._collector.finish(), None
        self.objects = len(objects)
        names = self._classes.names
        scale = scale_of(self._reference, self._size, self._extras.pixel_size)
        job, image = self._job, Path(str(self._job.image))
        if job.polygons is not None:
            from convlora.measuring.geojson import geojson_lines

            with replacing_file(job.polygons) as temporary, temporary.open("w", encoding="utf-8") as file:
                try:
                    file.writelines(f"{line}\n" for line in geojson_lines(objects, names, scale, image.name))
                except MemoryError as error:
                    raise InputError(
                        f"The outlines of {self._job.image} do not fit into memory: {error}. Cut the image into "
                        "pieces, or leave out --polygons."
                    ) from error
        if job.piece is not None:
            write_piece(job.piece, image, objects, names, scale, self._extras.labels is not None)


@contextmanager
def open_extras(
    job: Job, size: tuple[int, int], classes: ClassTable, extras: Extras, reference: GeoReference | None
) -> Iterator[ExtraFiles]:
    """Opens the files that are wanted of an image; they have their names only once they are whole.

    Args:
        job: The image and where they go.
        size: Its (height, width) in pixels.
        classes: The classes.
        extras: What is wanted.
        reference: Where on earth it lies.

    Raises:
        InputError: If the image is too large for a format.
    """
    files = ExtraFiles(job, size, classes, extras, reference)
    with files._stack:
        yield files
        files.finish()
