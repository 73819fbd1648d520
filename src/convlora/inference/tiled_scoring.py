"""Scores of images that are seen in windows, as `convlora predict --tile` sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import SampleInputError
from convlora.data.reading.bands import Reading
from convlora.data.reading.mask_rows import open_mask
from convlora.data.reading.rows import open_rows
from convlora.data.sample import Sample, size_mismatch_message
from convlora.errors import InputError
from convlora.inference.outputs import HALF, classes_of, probabilities_of
from convlora.inference.score_keeping import update_by_map
from convlora.inference.tiles import score_pieces
from convlora.inference.volume_scores import VolumeScores
from convlora.inference.windows import Tiles
from convlora.metrics import BinaryScores, MultiClassScores


@dataclass
class Asked:
    """What answers about windows, a `convlora.inference.tiles.WindowModel`.

    Attributes:
        classes: The classes.
        image_size: (height, width) the model works at.
        outputs: What the model returns for images, and their places in that.
    """

    classes: ClassTable
    image_size: tuple[int, int]
    outputs: Callable[[Sequence[torch.Tensor]], Iterator[tuple[Any, int]]]
    threshold: float = HALF
    map_type: type[np.unsignedinteger] = np.uint16


def score_in_windows(
    scores: BinaryScores | MultiClassScores,
    samples: Sequence[Sample],
    asked: Asked,
    tiles: Tiles,
    intensity: Reading = "type",
    batch_size: int = 1,
    volumes: VolumeScores | None = None,
) -> Iterator[tuple[np.ndarray, dict[str, Any] | None]]:
    """Scores images one after the other; of each, its windows go together.

    In memory are the labels of one image, and the probability or the class of each of its pixels, but not its pixels,
    as far as its format can be read piece by piece.

    Args:
        scores: Where to.
        samples: The images and their masks.
        asked: The model.
        tiles: How images are cut.
        intensity: How values become 8 bits, or which bands are read.
        batch_size: Windows at a time.
        volumes: Receives the slices of volumes.

    Yields:
        The labels of each image, `(H, W)`, and what it added, see `convlora.inference.score_keeping.update_scores`.

    Raises:
        SampleInputError: If an image or a mask cannot be used.
    """
    for sample in samples:
        try:
            labels = _labels(sample, asked.classes)
            with open_rows(sample.image, intensity) as source:
                size = (source.height, source.width)
                if size != labels.shape:
                    raise InputError(size_mismatch_message(sample, size, (labels.shape[0], labels.shape[1])))
                answer = np.empty(size, np.float32 if isinstance(scores, BinaryScores) else asked.map_type)
                for rows, columns, piece in score_pieces(asked, source, tiles, batch_size):
                    wanted = probabilities_of(piece)[-1] if isinstance(scores, BinaryScores) else classes_of(piece)
                    answer[rows, columns] = wanted.cpu().numpy()
        except InputError as error:
            raise SampleInputError(str(error)) from error
        except MemoryError as error:
            raise SampleInputError(f"{sample.image} is too large for the memory. Cut it into pieces.") from error
        if volumes is not None:
            volumes.update(sample, answer > asked.threshold if isinstance(scores, BinaryScores) else answer, labels)
        if isinstance(scores, BinaryScores):
            yield labels, scores.update(answer, labels)
        else:
            yield labels, update_by_map(scores, answer.astype(np.int64), labels)


def _labels(sample: Sample, classes: ClassTable) -> np.ndarray:
    if sample.mask is None:
        raise InputError(f"{sample.image} has no mask. Add one to train on it or to evaluate with it.")
    with open_mask(sample.mask) as mask:
        return classes.encode(mask.read(0, mask.height), sample.mask)
