"""What a run takes where its settings say nothing: by its SAM, its method and the number of its images.

The loss was chosen by measurement (`bce-dice` on cracks: test IoU 0.49, `structure` 0.45, one seed). The rest is
what is usual, and not measured yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from convlora.methods.registry import find_method
from convlora.settings.data import Augmentation
from convlora.settings.training import Loss
from convlora.training.config import RunConfig

AUGMENTATION: Augmentation = "flips"
LOSS: Loss = "bce-dice"
EMA = 0.0
WARM_UP_STEPS, WARM_UP_SHARE = 20, 0.05

# Where training begins with the weights of an earlier run. At the usual rates the first steps undo what it has learned:
# Adam knows nothing of the gradients yet, and its first steps are the longest (docs/loop.md has the figures).
GO_ON_RATE, GO_ON_WARM_UP_SHARE = 0.3, 0.25

NARROW = 384  # channels of a vision encoder; the published SAMs have 768, 1024 and 1280, `tiny` 192
NARROW_LR = 1e-3
FRESH_LR = 1e-3  # of the detail branch, which begins at random, as a U-Net does

IMAGES_SEEN = 4000  # counting an image in every epoch
FEWEST_EPOCHS, MOST_EPOCHS = 10, 200


def default_rates(method: str, model: Any) -> tuple[float, float | None]:
    """The learning rates of a method on a model.

    Args:
        method: Its name.
        model: The segmenter, without adapters.

    Returns:
        The rate of everything, and the one of the detail branch; None where there is no branch.
    """
    encoder: nn.Module | None = model.vision_encoder
    rate = find_method(method).lr
    decoder = getattr(model, "mask_decoder", None)
    if encoder is not None and model.config.encoder_width < NARROW:
        rate = max(rate, NARROW_LR)
    has_detail = getattr(decoder, "detail", None) is not None
    return rate, FRESH_LR if has_detail else None


def default_warm_up(steps: int, goes_on: bool = False) -> int:
    """Steps in which the learning rates rise.

    Args:
        steps: Steps of the run.
        goes_on: Whether it begins with the weights of an earlier run.
    """
    return min(WARM_UP_STEPS, round((GO_ON_WARM_UP_SHARE if goes_on else WARM_UP_SHARE) * steps))


def settle_choices(config: RunConfig) -> None:
    """Fills in what depends on neither model nor data, if it was left open."""
    t = config.training
    config.data.augmentation = config.data.augmentation or AUGMENTATION
    if t.loss is None:
        t.loss = LOSS
    if t.ema is None:
        t.ema = EMA


def settle_rates(config: RunConfig, model: Any, *, fresh_detail: bool = True) -> None:
    """Fills in the learning rates that were left open.

    Args:
        config: Settings of the run; changed in place.
        model: The segmenter, without adapters.
        fresh_detail: Whether the detail branch is new, also in a run that begins with the weights of an earlier one.
    """
    t = config.training
    rate, detail = default_rates(config.method.name, model)
    fresh = FRESH_LR
    if config.model.from_run is not None:
        rate, fresh = (round(GO_ON_RATE * one, 12) for one in (rate, fresh))
        detail = detail if detail is None or fresh_detail else fresh
    if t.lr is None:
        t.lr = rate
    is_fresh = getattr(getattr(model, "mask_decoder", None), "is_new", False)  # not the branch alone
    if t.lr_decoder is None and is_fresh and t.lr < fresh:
        t.lr_decoder = fresh
    if t.lr_detail is None and detail is not None and detail > t.lr:
        t.lr_detail = detail
    elif t.lr_detail is None and detail is not None and config.model.from_run is not None:
        t.lr_detail = t.lr  # stated, because a run that is resumed does not know whether the branch was new


def settle_epochs(config: RunConfig, images: int, tell: Callable[[str], None]) -> None:
    """Fills in the number of epochs if nothing else limits the run: more for fewer images.

    Args:
        config: Settings of the run; changed in place.
        images: To train on, or windows of them.
        tell: Receives a sentence about it.
    """
    t = config.training
    if t.epochs is not None or t.max_steps is not None or t.budget_seconds is not None:
        return
    t.epochs = min(max(math.ceil(IMAGES_SEEN / images), FEWEST_EPOCHS), MOST_EPOCHS)
    seen = "images" if config.data.window is None else "windows"
    tell(f"Training for {t.epochs} epochs, which suits {images} {seen}. Give --epochs to choose.")
