"""From what a segmenter returns for a batch to maps at each image's own size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from convlora.errors import RunError
from convlora.inference.cutoff import is_above
from convlora.inference.flips import mean_bands, mean_logit, mean_of_members, members_of, views_of
from convlora.models.outputs import BinaryOutput
from convlora.models.semantic_maps import bands

HALF = 0.5  # the threshold unless asked otherwise


def foreground_probability(output: Any, index: int, size: tuple[int, int]) -> torch.Tensor:
    """Probability of the foreground in one image at its own size; of an image and its flips the mean.

    Args:
        output: What the segmenter returned.
        index: Which image of the batch.
        size: The image's own (height, width).

    Returns:
        `(height, width)` float32, on the device of the output.
    """
    return torch.sigmoid(foreground_logit(output, index, size)[0])


def foreground_logit(output: Any, index: int, size: tuple[int, int]) -> torch.Tensor:
    """The logit of [`foreground_probability`], `(1, height, width)` float32."""
    logits = [view.foreground[index][None].float() for view in views_of(output)]
    return mean_logit([F.interpolate(one, size=size, mode="bilinear", align_corners=False)[0] for one in logits])


def check_finite(output: Any, precision: str) -> None:
    """Refuses an answer that holds nan: whatever is compared with it would silently be taken for background.

    Args:
        output: What the segmenter returned.
        precision: In which it was computed, for the message.

    Raises:
        RunError: If there is a number that is none.
    """
    values = [view.foreground if is_binary(view) else view.mask_logits for view in views_of(output)]
    if not bool(torch.stack([torch.isfinite(one).all() for one in values]).all()):
        advice = "Try --precision fp32." if precision != "fp32" else "Its weights are damaged, or were trained badly."
        raise RunError(f"The model's answer holds values that are no numbers. {advice}")


def is_binary(output: Any) -> bool:
    """Whether a model told the foreground by one logit map."""
    return isinstance(views_of(output)[0], BinaryOutput)


def own_map(output: Any, index: int, size: tuple[int, int], threshold: float = HALF) -> torch.Tensor:
    """Class of each pixel of one image, `(height, width)` int64, or uint8 for a binary task.

    Args:
        output: What the segmenter returned.
        index: Which image of the batch.
        size: The image's own (height, width).
        threshold: A pixel is foreground if its probability is above it; for a binary task.
    """
    if is_binary(output):
        return is_above(foreground_logit(output, index, size)[0], threshold).view(torch.uint8)
    return torch.cat([classes_of(scores, threshold) for _, scores in _class_scores(output, index, size)])


def own_probabilities(output: Any, index: int, size: tuple[int, int]) -> torch.Tensor:
    """Probability of each class at each pixel of one image, `(K, height, width)` float32; they sum to 1.

    The scores of mask classification do not sum to 1, because tokens may overlap or find nothing: they are divided by
    their sum.
    """
    if is_binary(output):
        foreground = foreground_probability(output, index, size)
        return torch.stack([1 - foreground, foreground])
    pieces = [scores / scores.sum(dim=0).clamp(min=1e-12) for _, scores in _class_scores(output, index, size)]
    return torch.cat(pieces, dim=1)


def blendable_scores(output: Any, index: int, size: tuple[int, int]) -> Iterator[tuple[slice, torch.Tensor]]:
    """What of one window is averaged with its neighbours, some rows at a time.

    In a binary task this is the logit. It is also what is enlarged bilinearly, so a border lies where the evidence of
    both windows balances. With several classes these are the scores before they are divided by their sum. Where no
    token found anything they are all near 0, and such a window should not outvote a neighbour that recognised
    something; divided by their sum, its noise would weigh as much. A single window gives the classes of [`own_map`]
    either way.

    Args:
        output: What the segmenter returned.
        index: Which window of the batch.
        size: (height, width) of a window in pixels of the image.

    Yields:
        Which rows, and float32 `(1, rows, width)` for a binary task or `(K, rows, width)`.
    """
    if is_binary(output):
        yield slice(0, size[0]), foreground_logit(output, index, size)
    else:
        yield from _class_scores(output, index, size)


def classes_of(scores: torch.Tensor, threshold: float = HALF) -> torch.Tensor:
    """Class of each pixel, `(h, w)` int64, from scores as of [`blendable_scores`].

    Args:
        scores: `(C, h, w)`.
        threshold: As of [`own_map`].
    """
    if len(scores) == 1:
        return is_above(scores[0], threshold).long()
    if threshold != HALF:  # two classes by a head for several
        return (probabilities_of(scores)[1] > threshold).long()
    return scores.argmax(dim=0)


def probabilities_of(scores: torch.Tensor) -> torch.Tensor:
    """Probabilities `(C, h, w)` from scores as of [`blendable_scores`]: of the foreground alone, or of each class."""
    if len(scores) == 1:
        return torch.sigmoid(scores)
    return scores / scores.sum(dim=0).clamp(min=1e-12)


def _class_scores(output: Any, index: int, size: tuple[int, int]) -> Iterator[tuple[slice, torch.Tensor]]:
    """Scores of one of several classes some rows at a time; of an image and its flips, and of all folds, the mean."""
    return mean_of_members(
        [mean_bands([bands(*_masks(view, index), size) for view in views_of(one)]) for one in members_of(output)]
    )


def _masks(output: Any, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    return output.mask_logits[index], None if output.class_logits is None else output.class_logits[index]
