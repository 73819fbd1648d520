"""Counting parameters."""

from __future__ import annotations

from torch import nn


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of parameters trained and in all.

    PEFT keeps the original of a module that is trained in full beside its copy. It plays no part, and is not counted.

    Args:
        model: A model, adapted by PEFT or not.
    """
    counted = [p for name, p in model.named_parameters() if ".original_module." not in name]
    return sum(p.numel() for p in counted if p.requires_grad), sum(p.numel() for p in counted)
