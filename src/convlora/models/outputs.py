"""What segmenters return."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers.modeling_outputs import SemanticSegmenterOutput


@dataclass
class BinaryOutput(SemanticSegmenterOutput):
    """What a segmenter of two classes returns.

    As transformers has it, `logits` `(B, 2, H, W)` are those of both classes: 0 for the background, z for the
    foreground. Their soft-max is the sigmoid of z, and the larger of the two is the class.
    """

    @classmethod
    def of(cls, foreground: torch.Tensor) -> BinaryOutput:
        """The output with logits `(B, 1, H, W)` of the foreground."""
        return cls(logits=F.pad(foreground, (0, 0, 0, 0, 1, 0)))

    @property
    def foreground(self) -> torch.Tensor:
        """The logits of the foreground, `(B, 1, H, W)`."""
        if self.logits is None:
            raise ValueError("this output has no logits")
        return self.logits[:, 1:]


@dataclass
class MultiClassOutput(SemanticSegmenterOutput):
    """What a segmenter of several classes returns, see [`SamForSemanticSegmentation.forward`]."""

    mask_logits: torch.Tensor | None = None
    class_logits: torch.Tensor | None = None
