"""Losses for binary segmentation: pure functions, and a registry that picks one by name.

Every function takes logits and soft or hard targets of the same shape and returns a scalar; see `functional` for the
formulas and `registry` for the names a configuration may use.
"""

from convlora.losses.functional import (
    balanced_bce_loss,
    bce_dice_loss,
    structure_loss,
    structure_loss_mean_bce,
)
from convlora.losses.labels import check_labels
from convlora.losses.mask_classification import SetLossSettings, set_loss
from convlora.losses.per_pixel import per_pixel_loss
from convlora.losses.registry import BALANCED_LOSSES, LOSSES, segmentation_loss

__all__ = [
    "BALANCED_LOSSES",
    "LOSSES",
    "SetLossSettings",
    "balanced_bce_loss",
    "bce_dice_loss",
    "check_labels",
    "per_pixel_loss",
    "segmentation_loss",
    "set_loss",
    "structure_loss",
    "structure_loss_mean_bce",
]
