"""One model that answers, or the models of several folds, whose answers are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from convlora.inference.answers import Answers
from convlora.inference.flips import FoldedOutput, answer_flips
from convlora.models.replay import Recorder


class FoldedModel(nn.Module):
    """The models of several folds, called as one.

    Args:
        members: The models; their frozen weights may share their memory.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, pixel_values: torch.Tensor) -> FoldedOutput:
        """What each of them returns for images `(B, 3, H, W)`."""
        return FoldedOutput(tuple(member(pixel_values=pixel_values) for member in self.members))


class Members:
    """Calls a model, or each of several, see [`Answers`].

    Args:
        model: A segmenter, or a [`FoldedModel`].
        recorder: Gives what makes recordings, to each model its own; None where nothing is to be recorded.
        context: As of [`Answers`].
    """

    def __init__(
        self,
        model: nn.Module,
        recorder: Callable[[], Recorder | None],
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        models = list(model.members) if isinstance(model, FoldedModel) else [model]
        self.is_folded = isinstance(model, FoldedModel)
        self.answers = [partial(Answers(recorder(), context), one) for one in models]

    def __call__(self, pixel_values: torch.Tensor, tta: bool = False) -> Any:
        """The output for images `(B, 3, H, W)`.

        Args:
            pixel_values: The images.
            tta: Whether they are answered in all flips.
        """
        outputs = [answer_flips(answer, pixel_values) if tta else answer(pixel_values) for answer in self.answers]
        return FoldedOutput(tuple(outputs)) if self.is_folded else outputs[0]
