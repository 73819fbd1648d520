"""What every segmenter with a mask decoder is told of its task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convlora.losses import LOSSES
from convlora.models.detail import FINEST
from convlora.settings.data import MOST_BANDS

HEADS = ("binary", "mask-classification", "per-pixel")


class TaskSettings:
    """Checks and derived values of the settings of the task, for configurations that hold them."""

    if TYPE_CHECKING:
        image_size: int | list[int] | tuple[int, int] | None
        num_classes: int
        head: str
        num_mask_tokens: int | str | None
        loss: str
        detail: str
        bands: int | None
        mask_decoder_config: Any

    def check_task(self) -> None:
        """Refuses settings that do not fit each other.

        Raises:
            ValueError: If they do not.
        """
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, background included, got {self.num_classes}.")
        if self.head != "auto" and self.head not in HEADS:
            raise ValueError(f"head must be one of auto, {', '.join(HEADS)}, got '{self.head}'")
        if self.head == "binary" and self.num_classes != 2:
            raise ValueError(f"the head 'binary' is for two classes, got {self.num_classes}; leave it at 'auto'")
        tokens = self.num_mask_tokens
        if not (tokens in (None, "auto") or (isinstance(tokens, int) and tokens >= 1)):
            raise ValueError(f"num_mask_tokens must be 'auto' or at least 1, got {tokens!r}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got '{self.loss}'")
        if self.detail not in FINEST:
            raise ValueError(f"detail must be one of {', '.join(FINEST)}, got '{self.detail}'")
        if self.bands is not None and not 1 <= self.bands <= MOST_BANDS:
            raise ValueError(f"bands must be a number from 1 to {MOST_BANDS}, got {self.bands!r}")

    @property
    def head_in_use(self) -> str:
        """The head, with `"auto"` decided."""
        if self.head != "auto":
            return self.head
        return "binary" if self.num_classes == 2 else "mask-classification"

    @property
    def has_one_token(self) -> bool:
        """Whether the decoder of a binary task has SAM's first mask token alone, without the three beside it."""
        alone = self.num_mask_tokens == 1 or self.mask_decoder_config.num_multimask_outputs == 0
        return self.head_in_use == "binary" and alone

    @property
    def mask_tokens_in_use(self) -> int:
        """Number of mask tokens of a head for several classes."""
        if self.head_in_use == "per-pixel" or not isinstance(self.num_mask_tokens, int):
            return self.num_classes
        return self.num_mask_tokens
