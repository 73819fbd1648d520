"""The threshold of the foreground's probability, as it is given."""

from __future__ import annotations

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError


def check_threshold(threshold: float | None, classes: ClassTable) -> None:
    """Checks a threshold before anything is loaded.

    Args:
        threshold: What was given; None: nothing.
        classes: Classes of the run.

    Raises:
        InputError: If it is not between 0 and 1, or there are several classes.
    """
    if threshold is None:
        return
    if not 0 < threshold < 1:
        raise InputError(
            f"--threshold is {threshold:g}, but must be between 0 and 1. Without it, a pixel is foreground if its "
            "probability is above 0.5."
        )
    if classes.num_classes > 2:
        raise InputError(
            f"--threshold has no effect with {classes.num_classes} classes: each pixel gets the most probable one. "
            "Leave it out."
        )
