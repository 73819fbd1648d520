"""From masks and their classes to probabilities per pixel, band by band."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from convlora.enlarge import enlarge_rows, row_bands
from convlora.models.autocast import without_autocast


def class_scores(mask_logits: torch.Tensor, class_logits: torch.Tensor | None) -> torch.Tensor:
    """Scores of the classes at each pixel, `(..., K, h, w)`, not negative.

    `sum over tokens n of softmax(class_n)_c * sigmoid(mask_n)`, the class "no object" left out; without class logits
    the soft-max over the masks, one per class.

    Args:
        mask_logits: `(..., N, h, w)`.
        class_logits: `(..., N, K + 1)`, or None.

    Source: Cheng et al., "Per-Pixel Classification is Not All You Need", NeurIPS 2021, section 3.4.
    """
    if class_logits is None:
        return mask_logits.softmax(dim=-3)
    with without_autocast(mask_logits.device):  # which would round the sums
        return torch.einsum("...nk,...nhw->...khw", class_logits.softmax(dim=-1)[..., :-1], mask_logits.sigmoid())


def bands(
    mask_logits: torch.Tensor, class_logits: torch.Tensor | None, size: tuple[int, int]
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Scores of one image at its own size, some rows at a time.

    The masks are enlarged once, from the decoder's size to the image's, before they are mixed: borders stay sharper
    than if mixed scores were enlarged, and memory does not grow with the product of tokens, classes and pixels.

    Args:
        mask_logits: `(N, h, w)`.
        class_logits: `(N, K + 1)`, or None.
        size: (height, width) in pixels.

    Yields:
        Which rows, and their scores `(K, rows, width)` in single precision.
    """
    tokens = len(mask_logits)
    depth = tokens if class_logits is None else max(tokens, class_logits.shape[-1])
    for top, bottom in row_bands(depth, size):
        yield slice(top, bottom), class_scores(enlarge_rows(mask_logits.float(), size, top, bottom), class_logits)
