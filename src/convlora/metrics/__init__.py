"""Scores of segmentations, image by image at each image's own size; what each means is in `docs/metrics.md`."""

from convlora.metrics.binary import STRUCTURE_SCORES, BinaryScores
from convlora.metrics.counts import PixelCounts
from convlora.metrics.multi_class import CommonClassBaseline, MultiClassScores
from convlora.metrics.trivial import TrivialBaselines

HIGHER_IS_BETTER: dict[str, bool] = {
    "iou": True,
    "dice": True,
    "iou_pooled": True,
    "dice_pooled": True,
    "precision": True,
    "recall": True,
    "miou": True,
    "mdice": True,
    "mean_accuracy": True,
    "boundary_f": True,
    "mae": False,
    "ber": False,
    "s_measure": True,
    "e_measure": True,
    "weighted_f": True,
    "weighted_f_beta1": True,
    "accuracy": True,
}
"""Direction of every score of `BinaryScores.compute` and `MultiClassScores.compute`; the others there are no scores."""

MULTI_CLASS_SCORES = ("miou", "mdice", "mean_accuracy", "accuracy", "boundary_f")
"""The scores of tasks with several classes."""

SLOW_SCORES = (*STRUCTURE_SCORES, "boundary_f")
"""Scores that are computed while training only if they pick the best epoch."""

__all__ = [
    "HIGHER_IS_BETTER",
    "MULTI_CLASS_SCORES",
    "SLOW_SCORES",
    "STRUCTURE_SCORES",
    "BinaryScores",
    "CommonClassBaseline",
    "MultiClassScores",
    "PixelCounts",
    "TrivialBaselines",
]
