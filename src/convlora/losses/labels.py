"""Checking labels before they reach a loss."""

from torch import Tensor

_MOST_LISTED = 10


def check_labels(labels: Tensor, num_classes: int, ignore_index: int = 255) -> None:
    """Raises an error if labels hold anything but classes and ignored pixels.

    The losses themselves do not check: to look at labels on a GPU is to wait for it. What the reader of a training
    run yields is valid by construction.

    Args:
        labels: Integers of any shape.
        num_classes: K; classes are 0..K-1.
        ignore_index: The label of the pixels that do not count.

    Raises:
        ValueError: If a label is neither a class nor `ignore_index`.
    """
    if bool((((labels >= 0) & (labels < num_classes)) | (labels == ignore_index)).all()):
        return
    classes = "0, 1" if num_classes == 2 else f"0 to {num_classes - 1}"
    found = labels.unique().tolist()
    shown = ", ".join(map(str, found[:_MOST_LISTED])) + (", ..." if len(found) > _MOST_LISTED else "")
    raise ValueError(f"labels must be {classes} or {ignore_index} (ignored), but contain [{shown}]")
