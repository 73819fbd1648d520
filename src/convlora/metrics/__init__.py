"""Scores of binary segmentations, image by image at each image's own size; what each means is in `docs/metrics.md`."""

from convlora.metrics.binary import STRUCTURE_SCORES, BinaryScores
from convlora.metrics.counts import PixelCounts
from convlora.metrics.trivial import TrivialBaselines

HIGHER_IS_BETTER: dict[str, bool] = {
    "iou": True,
    "dice": True,
    "iou_pooled": True,
    "dice_pooled": True,
    "mae": False,
    "ber": False,
    "s_measure": True,
    "e_measure": True,
    "weighted_f": True,
    "weighted_f_beta1": True,
    "accuracy": True,
}
"""Direction of every score of `BinaryScores.compute`; `num_images` and `num_skipped` are no scores."""

__all__ = ["HIGHER_IS_BETTER", "STRUCTURE_SCORES", "BinaryScores", "PixelCounts", "TrivialBaselines"]
