"""Averages of answers: of a model to an image and its mirror images, and of the models of several folds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))  # as it is, left and right, up and down, both


@dataclass
class FlippedOutput:
    """What a segmenter returned for a batch and for its mirror images.

    Attributes:
        views: The outputs, their maps turned back. What is made of them is averaged at each image's own size, see
            `convlora.inference.outputs`.
    """

    views: tuple[Any, ...]


def answer_flips(answer: Callable[[torch.Tensor], Any], pixel_values: torch.Tensor) -> FlippedOutput:
    """Asks for the answers to a batch in all of its flips, one after the other: batches keep their size.

    Args:
        answer: Returns what a segmenter returns for images.
        pixel_values: `(B, 3, H, W)`.
    """
    return FlippedOutput(tuple(_turned(answer(pixel_values.flip(dims)), dims) for dims in _FLIPS))


@dataclass
class FoldedOutput:
    """What the models of several folds returned for a batch.

    Attributes:
        members: The output of each, or its [`FlippedOutput`].
    """

    members: tuple[Any, ...]


def members_of(output: Any) -> tuple[Any, ...]:
    """What each model says: one output, or those of all folds."""
    return output.members if isinstance(output, FoldedOutput) else (output,)


def views_of(output: Any) -> tuple[Any, ...]:
    """What is to be averaged: one output, or those of all flips, of all folds."""
    members = members_of(output)
    return tuple(view for one in members for view in (one.views if isinstance(one, FlippedOutput) else (one,)))


def mean_logit(logits: list[torch.Tensor]) -> torch.Tensor:
    """The logit of the mean of probabilities that are given as logits; of one it is the same."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(logits)
    # Probabilities near 1 cannot be told apart in single precision, their logits can.
    log_sigmoid = torch.nn.functional.logsigmoid
    return log_sigmoid(stacked).logsumexp(dim=0) - log_sigmoid(-stacked).logsumexp(dim=0)


def mean_bands(views: list[Iterator[tuple[slice, torch.Tensor]]]) -> Iterator[tuple[slice, torch.Tensor]]:
    """The mean of maps that come some rows at a time, the same of all."""
    first, *others = views
    for rows, scores in first:
        for other in others:
            scores = scores + next(other)[1]
        yield rows, scores / len(views) if others else scores


def mean_of_members(members: list[Iterator[tuple[slice, torch.Tensor]]]) -> Iterator[tuple[slice, torch.Tensor]]:
    """The mean of probabilities that several models give, some rows at a time.

    Args:
        members: Scores of each model, `(K, rows, width)`, for the same rows. They need not sum to 1.

    Yields:
        Which rows, and scores: divided by their sum, they are the mean of what each model's scores are, divided by
        theirs. Their sum is the mean of the sums.
    """
    if len(members) == 1:
        yield from members[0]
        return
    for parts in zip(*members, strict=True):
        sums = [scores.sum(dim=0).clamp(min=1e-12) for _, scores in parts]
        mean = sum(scores / each for (_, scores), each in zip(parts, sums)) / len(parts)
        yield parts[0][0], mean * (sum(sums) / len(parts))


def _turned(output: Any, dims: tuple[int, ...]) -> Any:
    """An output with its maps flipped."""
    if not dims:
        return output
    flipped = {
        name: value.flip(dims) if value is not None and value.dim() == 4 else value
        for name, value in vars(output).items()
    }
    return type(output)(**flipped)
