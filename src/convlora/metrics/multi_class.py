"""Scores of a semantic segmentation with several classes, from one confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convlora.errors import InputError
from convlora.metrics.boundary import boundary_counts, boundary_f
from convlora.metrics.counts import nothing_scored


class MultiClassScores:
    """Collects the confusion matrix of a segmentation image by image, each at its own size.

    Scores are computed from the counts of all images together, as is usual for several classes. **A class that occurs
    neither in the truth nor in a prediction has no score and enters no mean**; one that is only predicted scores 0.

    Args:
        names: The classes, background included.
        ignore_index: The label of pixels that do not count.
        boundaries: Whether to compute `boundary_f` too, the slower part.

    Attributes:
        confusion: `(K, K)` int64, truth in rows and prediction in columns.
        boundary: `(K, 4)` int64, see `convlora.metrics.boundary`.
        num_images: Images with a valid pixel.
        num_skipped: Images without one. They appear in no score.

    Example:
        >>> import numpy as np
        >>> scores = MultiClassScores(["sky", "road", "car"])
        >>> scores.update(np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 255]]))
        >>> round(scores.compute()["miou"], 4)
        0.5
    """

    def __init__(self, names: Sequence[str], ignore_index: int = 255, boundaries: bool = True) -> None:
        if 0 <= ignore_index < len(names):
            raise ValueError(f"ignore_index {ignore_index} is also a class; give one outside 0..{len(names) - 1}")
        self.names = tuple(names)
        self.ignore_index = ignore_index
        self.boundaries = boundaries
        self.confusion: NDArray[np.int64] = np.zeros((len(names), len(names)), dtype=np.int64)
        self.boundary: NDArray[np.int64] = np.zeros((len(names), 4), dtype=np.int64)
        self.num_images = 0
        self.num_skipped = 0

    def update(self, semantic_map: np.ndarray | torch.Tensor, labels: np.ndarray | torch.Tensor) -> None:
        """Takes in one image.

        Args:
            semantic_map: Predicted classes `(H, W)`, integers 0..K-1.
            labels: `(H, W)` integers: 0..K-1 or `ignore_index`.

        Raises:
            ValueError: If a shape or a value is none of the above.
        """
        predicted, truth = (_as_integers(one) for one in (semantic_map, labels))
        if predicted.shape != truth.shape or truth.ndim != 2:
            raise ValueError(f"expected two maps (H, W), not {predicted.shape} and {truth.shape}")
        valid = truth != self.ignore_index
        if not valid.any():
            self.num_skipped += 1
            return
        count = len(self.names)
        for name, values in (("labels", truth[valid]), ("the semantic map", predicted[valid])):
            if values.min() < 0 or values.max() >= count:
                raise ValueError(f"{name} must lie in 0..{count - 1}, but reach from {values.min()} to {values.max()}")
        pairs = truth[valid] * count + predicted[valid]
        self.confusion += np.bincount(pairs, minlength=count * count).reshape(count, count)
        if self.boundaries:
            self.boundary += boundary_counts(predicted, truth, valid, count)
        self.num_images += 1

    def compute(self) -> dict[str, Any]:
        """Reduces what was collected so far.

        Returns:
            `miou`, `mdice`, `mean_accuracy` (mean share of each true class that was found), `accuracy` (share of all
            pixels), `boundary_f` (if asked for; 1 where neither has a boundary), `num_images`, `num_skipped`, and
            `per_class`: for each class its `iou`, `dice`, `accuracy`, `boundary_f` and share of the valid `pixels`;
            None where a class has no score.

        Raises:
            InputError: If no image could be scored.
        """
        if not self.num_images:
            raise InputError(nothing_scored(self.num_skipped))
        right = np.diag(self.confusion)
        true, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        either = true + predicted - right
        per_class = {
            name: {
                "iou": _ratio(right[i], either[i]),
                "dice": _ratio(2 * right[i], true[i] + predicted[i]),
                "accuracy": _ratio(right[i], true[i]),
                **({"boundary_f": boundary_f(self.boundary[i])} if self.boundaries else {}),
                "pixels": float(true[i] / true.sum()),
            }
            for i, name in enumerate(self.names)
        }
        outlines = [entry["boundary_f"] for entry in per_class.values() if entry.get("boundary_f") is not None]
        return {
            "miou": _mean(entry["iou"] for entry in per_class.values()),
            "mdice": _mean(entry["dice"] for entry in per_class.values()),
            "mean_accuracy": _mean(entry["accuracy"] for entry in per_class.values()),
            "accuracy": float(right.sum() / true.sum()),
            **({"boundary_f": _mean(outlines) if outlines else 1.0} if self.boundaries else {}),
            "num_images": self.num_images,
            "num_skipped": self.num_skipped,
            "per_class": per_class,
        }

    def state_dict(self) -> dict[str, Any]:
        """What was collected, as plain lists and numbers that JSON can hold and `merge` takes."""
        return {
            "names": list(self.names),
            "ignore_index": self.ignore_index,
            "confusion": self.confusion.tolist(),
            "boundaries": self.boundaries,
            "boundary": self.boundary.tolist(),
            "num_images": self.num_images,
            "num_skipped": self.num_skipped,
        }

    def merge(self, other_state: Mapping[str, Any]) -> None:
        """Adds what another collector gathered.

        Args:
            other_state: The other one's `state_dict()`.

        Raises:
            ValueError: If the other one worked with other classes or settings.
        """
        for setting in ("ignore_index", "boundaries"):
            if other_state[setting] != getattr(self, setting):
                raise ValueError(f"cannot merge scores of another {setting}")
        if tuple(other_state["names"]) != self.names:
            raise ValueError("cannot merge scores of other classes")
        self.boundary += np.asarray(other_state["boundary"], dtype=np.int64)
        self.confusion += np.asarray(other_state["confusion"], dtype=np.int64)
        self.num_images += other_state["num_images"]
        self.num_skipped += other_state["num_skipped"]


class CommonClassBaseline:
    """Scores of the answer "the most common class, everywhere", on a stream of labels.

    Args:
        names: The classes.
        ignore_index: The label of pixels that do not count.
    """

    def __init__(self, names: Sequence[str], ignore_index: int = 255) -> None:
        self.scores = MultiClassScores(names, ignore_index, boundaries=False)

    def update(self, labels: np.ndarray | torch.Tensor) -> None:
        """Takes in one image's labels."""
        truth = _as_integers(labels)
        self.scores.update(np.zeros_like(truth), truth)

    def compute(self) -> dict[str, dict[str, Any]]:
        """The scores, under the name `most_common_class`."""
        sizes = self.scores.confusion[:, 0].copy()
        answer = MultiClassScores(self.scores.names, self.scores.ignore_index, boundaries=False)
        answer.confusion[:, int(sizes.argmax())] = sizes
        answer.num_images, answer.num_skipped = self.scores.num_images, self.scores.num_skipped
        return {"most_common_class": answer.compute()}

    def state_dict(self) -> dict[str, Any]:
        """What was collected."""
        return self.scores.state_dict()

    def merge(self, other_state: Mapping[str, Any]) -> None:
        """Adds what another one gathered."""
        self.scores.merge(other_state)


def _as_integers(values: np.ndarray | torch.Tensor) -> NDArray[np.int64]:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype.kind not in "iub":
        raise ValueError(f"classes must be integers, not {array.dtype}")
    return array.astype(np.int64)


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: Any) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known)
