"""The model that a method trains, before anything is done to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from convlora.methods.registry import check_method, find_method
from convlora.models.configuration import as_size
from convlora.models.segmenter import SamForSemanticSegmentation
from convlora.models.unet import UNetForSemanticSegmentation, UNetSegmentationConfig


def load_model(
    method: str,
    options: Mapping[str, Any],
    source: str,
    *,
    image_size: int | list[int] | None,
    attention: str,
    num_mask_tokens: int | str | None,
    detail: str,
    **task: Any,
) -> SamForSemanticSegmentation | UNetForSemanticSegmentation:
    """The SAM that is fine-tuned, or the network that is trained in its place, in float32 on the CPU.

    Args:
        method: Name of the method.
        options: Its options.
        source: Where the SAM is.
        image_size: One side of a square or [height, width] in pixels; None: the model's own.
        attention: Of a SAM, see [`SamForSemanticSegmentation.from_pretrained`], as for `num_mask_tokens`.
        num_mask_tokens: Of a SAM.
        detail: Of a SAM.
        **task: `num_classes`, `id2label`, `head`, `loss` and `ignore_index`.

    Raises:
        InputError: If an option of the method does not fit, or the SAM cannot be read.
        ValueError: If the model cannot be what is asked for.
    """
    size = None if image_size is None else as_size(image_size)
    if find_method(method).network == "unet":
        check_method(method, options)  # before weights of any size are made
        return UNetForSemanticSegmentation(UNetSegmentationConfig(image_size=size, **options, **task)).eval()
    return SamForSemanticSegmentation.from_pretrained(
        source,
        image_size=size,
        attention=attention,
        num_mask_tokens=num_mask_tokens,
        detail=detail,
        dtype=torch.float32,
        **task,
    )
