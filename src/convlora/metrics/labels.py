"""What scores are called in tables and on pages."""

SCORE_LABELS = {
    "iou": "IoU, per image",
    "dice": "Dice, per image",
    "miou": "IoU, mean over classes",
    "mdice": "Dice, mean over classes",
    "mean_accuracy": "Accuracy, mean over classes",
    "boundary_f": "Boundary F, mean over classes",
    "iou_pooled": "IoU, pooled",
    "dice_pooled": "Dice, pooled",
    "precision": "Precision, pooled",
    "recall": "Recall, pooled",
    "accuracy": "Accuracy",
    "mae": "MAE",
    "ber": "BER",
    "s_measure": "S-measure",
    "e_measure": "E-measure, mean",
    "weighted_f": "Weighted F",
    "weighted_f_beta1": "Weighted F, beta 1",
}

SHORT_LABELS = {"iou": "IoU", "dice": "Dice", "miou": "mean IoU", "mdice": "mean Dice"}
"""For sentences and axes."""


def short_label(name: str) -> str:
    """A score's name for sentences and axes."""
    return SHORT_LABELS.get(name, name.replace("_", " "))
