"""What is kept of the scores of images, whatever way they were seen."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from convlora.data.classes.class_table import ClassTable
from convlora.inference.outputs import foreground_probability, is_binary, own_map, own_probabilities
from convlora.metrics import BinaryScores, CommonClassBaseline, MultiClassScores, TrivialBaselines


class Baselines(Protocol):
    """Scores of answers that need no image."""

    def update(self, labels: np.ndarray) -> None:
        """Takes in one image's labels."""

    def compute(self) -> dict[str, dict[str, Any]]:
        """The scores by the name of the answer."""

    def state_dict(self) -> dict[str, Any]:
        """What was collected."""

    def merge(self, other_state: Any) -> None:
        """Adds what another one collected."""


def new_scores(classes: ClassTable, structure: bool = True) -> BinaryScores | MultiClassScores:
    """An empty collection of scores for a task.

    Args:
        classes: The classes.
        structure: Whether to compute the slow scores too: structure measures, and boundary F with several classes.
    """
    if classes.num_classes == 2:
        return BinaryScores(classes.ignore_index, structure=structure)
    return MultiClassScores(classes.names, classes.ignore_index, boundaries=structure)


def new_baselines(classes: ClassTable) -> Baselines:
    """An empty collection of the scores of trivial answers."""
    if classes.num_classes == 2:
        return TrivialBaselines(classes.ignore_index)
    return CommonClassBaseline(classes.names, classes.ignore_index)


def update_scores(
    scores: BinaryScores | MultiClassScores, output: Any, index: int, labels: np.ndarray
) -> dict[str, Any] | None:
    """Scores one image of a model's output at the size of its labels.

    Args:
        scores: Where to.
        output: What the segmenter returned for a batch.
        index: Which image of the batch.
        labels: `(H, W)`.

    Returns:
        What the image adds: of a binary task its scores, else for each class the pixels that are `right`, `true` and
        `predicted`. None if every pixel is ignored.
    """
    size = (labels.shape[0], labels.shape[1])
    if isinstance(scores, BinaryScores):
        return scores.update(_foreground(output, index, size).cpu().numpy(), labels)
    return update_by_map(scores, own_map(output, index, size), labels)


def _foreground(output: Any, index: int, size: tuple[int, int]) -> torch.Tensor:
    if is_binary(output):
        return foreground_probability(output, index, size)
    return own_probabilities(output, index, size)[1]


def update_by_map(
    scores: MultiClassScores, semantic_map: np.ndarray | torch.Tensor, labels: np.ndarray
) -> dict[str, Any] | None:
    """Scores the classes of one image's pixels, as [`update_scores`].

    Args:
        scores: Where to.
        semantic_map: `(H, W)` integers.
        labels: `(H, W)`.
    """
    before, skipped = scores.confusion.copy(), scores.num_skipped
    scores.update(semantic_map, labels)
    if scores.num_skipped > skipped:
        return None
    added = scores.confusion - before
    return {
        "right": np.diag(added).tolist(),
        "true": added.sum(axis=1).tolist(),
        "predicted": added.sum(axis=0).tolist(),
    }
