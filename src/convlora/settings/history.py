"""What runs of older versions did, and what runs write into their settings by themselves."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

IN_OLDER_VERSIONS: dict[str, dict[str, Any]] = {
    "model": {"detail": "none"},
    "training": {"lr_decoder": None, "lr_detail": None, "warmup_steps": 0, "ema": 0.0, "patience": None},
}
"""What a run did whose version did not have the setting yet; and published experiments."""


class _Anything:
    """All values but none."""

    def __contains__(self, value: object) -> bool:
        return value is not None


ANYTHING = _Anything()
OF_BANDS = ("data.band_range", "data.band_mean", "data.band_std")

FILLED_IN: dict[str, Container[Any]] = {
    "model.head": ("auto", "per-pixel", "mask-classification"),
    "training.loss": ("structure", "bce-dice"),
    "training.epochs": (20,),
    "training.warmup_steps": tuple(range(1, 21)),
    "training.lr": (1e-4, 1e-3),
    "training.lr_detail": (1e-3,),
    "data.split_seed": (0,),
    **dict.fromkeys(OF_BANDS, ANYTHING),
}
"""What runs write into their `config.yaml` by themselves.

The loss and the epochs were defaults of older versions, comparisons hold out the same images for all seeds, and the
rest is what `convlora.training.defaults` chooses. The ranges and statistics of bands are those of the training images.
"""

CHOSEN_BY: dict[str, tuple[str, ...]] = {
    "training.epochs": ("training.warmup_steps",),
    "training.max_steps": ("training.warmup_steps",),
    "training.budget_seconds": ("training.warmup_steps",),
    "data.path": OF_BANDS,
    "data.bands": OF_BANDS,
    "model.bands": OF_BANDS,
    "model.source": ("training.lr", "training.lr_detail"),
    "model.detail": ("training.lr_detail", "model.head"),
    "model.num_mask_tokens": ("model.head",),
    "method.name": ("training.lr", "training.lr_detail"),
}
"""Settings that a setting chooses. When it changes, they are chosen anew, unless they were asked for."""
