"""What the detail branch adds to the logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from convlora.inspecting.layers import segmenter_of
from convlora.models.drawing import MaskDecoder, Masks
from convlora.models.semantic_maps import class_scores


class DetailShare(NamedTuple):
    """The logits of one image with and without its detail branch, at the size of the branch.

    Attributes:
        without: Two classes: logits of the foreground, `(h, w)`. More: the classes, `(h, w)` integers.
        with_detail: The same with the branch.
        added: What it adds to the logits, `(h, w)`; of several masks the mean of the absolute values.
        share: Mean absolute value of what it adds, over the sum of that and the mean absolute value of the rest.
        changed: Share of the pixels whose class it changes.
        is_binary: Whether there are two classes.
    """

    without: np.ndarray
    with_detail: np.ndarray
    added: np.ndarray
    share: float
    changed: float
    is_binary: bool


def has_detail(model: Any) -> bool:
    """Whether a model has a detail branch."""
    return any(getattr(part, "detail", None) is not None for part in _decoders(model))


@contextmanager
def catching(model: Any) -> Iterator[list[DetailShare]]:
    """Looks at the logits of each image that passes through the model in the block.

    Args:
        model: The model.

    Yields:
        Receives one entry for each image.
    """
    found: list[DetailShare] = []

    def look(decoder: Any, args: Any, output: Any) -> None:
        is_binary = isinstance(output, Masks)
        masks, class_logits = (output, None) if is_binary else output
        if masks.fine is not None:
            found.extend(_of_image(masks, class_logits, index, is_binary) for index in range(len(masks.coarse)))

    handles = [decoder.register_forward_hook(look) for decoder in _decoders(model)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _of_image(masks: Masks, class_logits: torch.Tensor | None, index: int, is_binary: bool) -> DetailShare:
    one = slice(index, index + 1)
    if masks.fine is None:
        raise ValueError("there is no detail branch")
    fine = masks.fine[one].float()
    coarse = F.interpolate(masks.coarse[one].float(), size=fine.shape[-2:], mode="bilinear", align_corners=False)
    size, rest = float(fine.abs().mean()), float(coarse.abs().mean())
    share = size / (size + rest) if size + rest else 0.0
    if is_binary:
        before, after = coarse[0, 0], (coarse + fine)[0, 0]
        changed, added = (before > 0) != (after > 0), fine[0, 0]
    else:
        named = None if class_logits is None else class_logits[one].float()
        before, after = (class_scores(part, named)[0].argmax(dim=0) for part in (coarse, coarse + fine))
        changed, added = before != after, fine[0].abs().mean(dim=0)
    arrays = (before.cpu().numpy(), after.cpu().numpy(), added.cpu().numpy())
    return DetailShare(*arrays, share, float(changed.float().mean()), is_binary)


def _decoders(model: Any) -> list[MaskDecoder]:
    return [part for part in segmenter_of(model).modules() if isinstance(part, MaskDecoder)]
