"""What a useless model would score: the same answer for every pixel of every image."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from convlora.metrics.binary import checked_labels
from convlora.metrics.counts import PixelCounts, accuracy, add_counts, dice, iou, precision, recall


class TrivialBaselines:
    """Scores of the two constant answers, "all background" and "all foreground", on a stream of labels.

    A trained model that does not clearly beat both has learnt nothing useful. The scores follow the conventions of
    `BinaryScores`: images without a valid pixel are left out, and an answer that is empty where the truth is empty
    counts as 1.

    Args:
        ignore_index: The label of pixels that do not count; any integer but 0 and 1.

    Raises:
        ValueError: If `ignore_index` is 0 or 1.

    Example:
        >>> import numpy as np
        >>> baselines = TrivialBaselines()
        >>> baselines.update(np.array([[1, 0], [0, 0]]))
        >>> baselines.compute()["all_background"]["accuracy"], baselines.compute()["all_foreground"]["iou"]
        (0.75, 0.25)
    """

    def __init__(self, ignore_index: int = 255) -> None:
        if ignore_index in (0, 1):
            raise ValueError(f"ignore_index must be neither 0 nor 1, which are the two classes, but is {ignore_index}")
        self.ignore_index = ignore_index
        # Both answers follow from the sizes of the two classes, so only these are kept.
        self._class_sizes: list[tuple[int, int]] = []  # background and foreground pixels of each image
        self.num_skipped = 0

    def update(self, labels: np.ndarray | torch.Tensor) -> None:
        """Take in one image's labels.

        Args:
            labels: `(H, W)` integer or boolean: 0, 1 or `ignore_index`.

        Raises:
            ValueError: If the shape, the type or a value is none of the above.
        """
        label_map = checked_labels(labels, self.ignore_index)
        background, foreground = (int(np.count_nonzero(label_map == one)) for one in (0, 1))
        if background + foreground:
            self._class_sizes.append((background, foreground))
        else:
            self.num_skipped += 1

    def compute(self) -> dict[str, dict[str, float]]:
        """Reduce what was collected so far.

        Returns:
            For each of `all_background` and `all_foreground`: `iou` and `dice` (means over the images), `iou_pooled`,
            `dice_pooled`, `precision`, `recall` and `accuracy` (from counts summed over the images).

        Raises:
            ValueError: If no image had a valid pixel.
        """
        if not self._class_sizes:
            raise ValueError(f"no labels to score: {self.num_skipped} images were given, each with every pixel ignored")
        return {
            "all_background": _reduce([PixelCounts(0, 0, bg, fg) for bg, fg in self._class_sizes]),
            "all_foreground": _reduce([PixelCounts(fg, bg, 0, 0) for bg, fg in self._class_sizes]),
        }

    def state_dict(self) -> dict[str, Any]:
        """What was collected, as plain lists and numbers that JSON can hold and `merge` takes."""
        return {
            "ignore_index": self.ignore_index,
            "class_sizes": [list(sizes) for sizes in self._class_sizes],
            "num_skipped": self.num_skipped,
        }

    def merge(self, other_state: Mapping[str, Any]) -> None:
        """Add what another collector gathered.

        Args:
            other_state: The other one's `state_dict()`.

        Raises:
            ValueError: If the other one worked with another `ignore_index`.
        """
        if other_state["ignore_index"] != self.ignore_index:
            raise ValueError(
                f"cannot merge labels with ignore_index {other_state['ignore_index']} into labels with "
                f"ignore_index {self.ignore_index}"
            )
        self._class_sizes.extend((background, foreground) for background, foreground in other_state["class_sizes"])
        self.num_skipped += other_state["num_skipped"]


def _reduce(counts: list[PixelCounts]) -> dict[str, float]:
    pooled = add_counts(counts)
    return {
        "iou": math.fsum(map(iou, counts)) / len(counts),
        "dice": math.fsum(map(dice, counts)) / len(counts),
        "iou_pooled": iou(pooled),
        "dice_pooled": dice(pooled),
        "precision": precision(pooled),
        "recall": recall(pooled),
        "accuracy": accuracy(pooled),
    }
