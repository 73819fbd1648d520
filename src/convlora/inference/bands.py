"""Classes and probabilities of some rows of an image."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from convlora.inference.outputs import blendable_scores, classes_of, probabilities_of

MOST = 65535  # stands for the largest uncertainty, 1, in 16 bits
FULL = 65534  # stands for the probability 1 in 16 bits; 65535 is left for pixels without data


class Wanted(NamedTuple):
    """Which probabilities are wanted beside the classes.

    Attributes:
        of_class: That of each pixel's own class.
        of_all: Those of all classes, in 16 bits.
        uncertainty: How uncertain the class of each pixel is, in 16 bits.
    """

    of_class: bool = False
    of_all: bool = False
    uncertainty: bool = False

    def bytes_per_pixel(self, channels: int) -> int:
        """What they take, of so many channels."""
        return 4 * self.of_class + 2 * channels * self.of_all + 2 * self.uncertainty


NOTHING = Wanted()


class Answer(NamedTuple):
    """What a model says about an image or a part of it.

    Attributes:
        semantic_map: Class of each pixel, `(h, w)`.
        probability: Probability of this class, `(h, w)` float32, if wanted.
        probabilities: Probabilities of the foreground `(1, h, w)`, or of each of several classes `(K, h, w)`, uint16 in
            units of 1 / `FULL`, if wanted.
        uncertainty: Entropy of the probabilities of each pixel as a share of the largest one, `(h, w)` uint16 in units
            of 1 / `MOST`, if wanted.
    """

    semantic_map: np.ndarray
    probability: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    uncertainty: np.ndarray | None = None


class Band(NamedTuple):
    """An [`Answer`] for some rows of an image.

    Attributes:
        rows: Which.
        semantic_map: See there.
        probability: See there.
        probabilities: See there.
        uncertainty: See there.
    """

    rows: slice
    semantic_map: np.ndarray
    probability: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    uncertainty: np.ndarray | None = None

    @classmethod
    def empty(cls, rows: slice, width: int, channels: int, wanted: Wanted, map_type: Any) -> Band:
        """One to be filled."""
        size = (rows.stop - rows.start, width)
        return cls(
            rows,
            np.empty(size, map_type),
            np.empty(size, np.float32) if wanted.of_class else None,
            np.empty((channels, *size), np.uint16) if wanted.of_all else None,
            np.empty(size, np.uint16) if wanted.uncertainty else None,
        )

    @property
    def answer(self) -> Answer:
        """The same without the rows."""
        return Answer(*self[1:])

    def put(self, columns: slice, answer: Answer) -> None:
        """Fills some columns."""
        for whole, part in zip(self[1:], answer):
            if whole is not None and part is not None:
                whole[..., columns] = part


def answer_of(scores: torch.Tensor, wanted: Wanted, threshold: float) -> Answer:
    """What scores as of `convlora.inference.outputs.blendable_scores` say.

    Args:
        scores: `(C, h, w)`.
        wanted: Which probabilities are wanted.
        threshold: As of `convlora.inference.outputs.classes_of`.
    """
    classes = classes_of(scores, threshold)
    if not any(wanted):
        return Answer(classes.cpu().numpy())
    every = probabilities_of(scores)
    return Answer(
        classes.cpu().numpy(),
        _of_class(every, classes).cpu().numpy() if wanted.of_class else None,
        _in_16_bits(every, FULL) if wanted.of_all else None,
        _in_16_bits(uncertainty(every), MOST) if wanted.uncertainty else None,
    )


def uncertainty(every: torch.Tensor) -> torch.Tensor:
    """Entropy of the probabilities of each pixel, divided by that of equal probabilities: from 0 to 1, `(h, w)`.

    Args:
        every: Probabilities of the foreground `(1, h, w)`, or of each class `(K, h, w)`, which sum to 1.

    Source: Shannon entropy as the measure of uncertainty sampling: Settles, "Active Learning Literature Survey", 2009,
        section 3.1; per pixel for segmentation: Mackowiak et al., "CEREALS", BMVC 2018.
    """
    parts = [every[0], 1 - every[0]] if len(every) == 1 else list(every)
    total = torch.zeros_like(every[0])
    for part in parts:  # one by one: those of all classes at once would be as large as the probabilities
        total += torch.special.entr(part)
    return (total / math.log(len(parts))).clamp(0, 1)


def _in_16_bits(shares: torch.Tensor, full: int) -> np.ndarray:
    return (shares * full).round().int().cpu().numpy().astype(np.uint16)


def _of_class(every: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    if len(every) == 1:
        return torch.where(classes > 0, every[0], 1 - every[0])
    return every.gather(0, classes[None])[0]


def own_answer(
    output: Any, index: int, size: tuple[int, int], wanted: Wanted, threshold: float, map_type: Any
) -> Answer:
    """What a model says about one image at its own size, see `convlora.inference.outputs.own_map`.

    Args:
        output: What the segmenter returned.
        index: Which image of the batch.
        size: The image's own (height, width).
        wanted: Which probabilities are wanted.
        threshold: As of `convlora.inference.outputs.own_map`.
        map_type: What semantic maps are made of.
    """
    whole: Band | None = None
    for rows, scores in blendable_scores(output, index, size):
        if whole is None:
            whole = Band.empty(slice(0, size[0]), size[1], len(scores), wanted, map_type)
        for kept, part in zip(whole[1:], answer_of(scores, wanted, threshold)):
            if kept is not None and part is not None:
                kept[..., rows, :] = part
    if whole is None:
        raise ValueError("an image has rows")
    return Answer(*whole[1:])
