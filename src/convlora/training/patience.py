"""Whether a run has stopped getting better.

transformers has a callback for it, which counts by itself. Here the count follows from the scores of all validations,
which checkpoints hold anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def why_stop(
    history: Sequence[dict[str, Any]], score: str, greater_is_better: bool, patience: int | None
) -> str | None:
    """Why a run should end before its last step; None if it should go on.

    Args:
        history: The scores of its validations with their `epoch`, in order.
        score: The one that picks the best epoch.
        greater_is_better: Whether it rises.
        patience: After so many validations in a row without a better score; None: never.
    """
    if patience is None:
        return None
    best, best_epoch, since = -math.inf, None, 0
    for entry in history:
        value = entry[score] if greater_is_better else -entry[score]
        if value > best:
            best, best_epoch, since = value, entry["epoch"], 0
        else:
            since += 1
    if since < patience:
        return None
    after = "" if best_epoch is None else f" since epoch {best_epoch}"
    return f"no better {score} on the validation images{after}, in {since} validations (training.patience={patience})"
