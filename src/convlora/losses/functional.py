"""The losses as functions of one map of logits per image.

All of them share three habits. They work in float32 (or float64 when given that), whatever the logits come in. They
start from the logits, never from probabilities, so that large logits stay finite. And pixels outside `valid` are
replaced by constants before anything is computed, so that nothing they hold, not even a NaN, reaches the value or the
gradient.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BORDER_WINDOW = 31  # pixels a side: the neighbourhood that decides how close to a border a pixel is
BORDER_GAIN = 5.0  # a pixel that disagrees entirely with its neighbourhood weighs 1 + 5
_LEAST = 1e-6  # a sum of weights to divide by: less than any valid pixel weighs


class _Pixels(NamedTuple):
    """What a loss works on, ignored pixels already neutral."""

    logits: Tensor  # (B, 1, H, W) float32 or float64; 0 at ignored pixels
    target: Tensor  # the same; 0 (background) at ignored pixels
    counted: Tensor  # the same; 1 for a valid pixel, 0 for an ignored one
    weight: Tensor  # the same; of each pixel in the cross entropy: that of its class, 0 for an ignored one


def structure_loss(
    logits: Tensor, target: Tensor, valid: Tensor | None = None, class_weights: Tensor | None = None
) -> Tensor:
    """Border-weighted cross entropy plus border-weighted IoU, averaged over the images.

    With `l` the cross entropy of each pixel, `p = sigmoid(logits)` and `t` the target::

        w      = 1 + 5 * |mean of t over the 31 x 31 pixels around - t|
        wbce_b = sum(w l) / sum(w)
        wiou_b = 1 - (sum(w p t) + 1) / (sum(w (p + t)) - sum(w p t) + 1)
        loss   = mean over images of wbce_b + wiou_b

    The 31 x 31 mean counts what lies outside the image as background, and so it does with ignored pixels. An image
    without a valid pixel is left out of the mean over the images.

    Args:
        logits: `(B, 1, H, W)` or `(B, H, W)`, any floating type.
        target: The same shape, values in [0, 1]; soft targets are allowed.
        valid: The same shape, boolean: the pixels to count. Default: all of them.
        class_weights: `(2,)` weights of background and foreground in the cross entropy. Default: 1 for both.

    Returns:
        A scalar, float32 (float64 for float64 logits). 0 with zero gradients if no pixel is valid.

    Raises:
        ValueError: If the shapes differ or are none of the two above, or if `valid` is not boolean.

    Source:
        Fan et al., "PraNet: Parallel Reverse Attention Network for Polyp Segmentation", MICCAI 2020; used by Zhong et
        al., "Convolution Meets LoRA", ICLR 2024. Published implementations differ from this formula, see
        `structure_loss_mean_bce`.
    """
    pixels = _prepare(logits, target, valid, class_weights)
    border = _border_weight(pixels)
    cross_entropy = (border * _cross_entropy(pixels)).sum((1, 2, 3))
    # The clamp acts on images without a valid pixel, where the numerator is 0.
    weighted_bce = cross_entropy / (border * pixels.weight).sum((1, 2, 3)).clamp(min=_LEAST)
    return _mean_over_images(weighted_bce + _weighted_iou_loss(pixels, border), pixels)


def structure_loss_mean_bce(
    logits: Tensor, target: Tensor, valid: Tensor | None = None, class_weights: Tensor | None = None
) -> Tensor:
    """Plain mean cross entropy plus border-weighted IoU: what published code computes under the name structure loss.

    The widespread implementation asks for the cross entropy with an obsolete argument that makes it one mean over the
    batch. The border weights then cancel out of that term and only the IoU term keeps them. Use this one to repeat
    published numbers, `structure_loss` otherwise.

    Args:
        logits: `(B, 1, H, W)` or `(B, H, W)`, any floating type.
        target: The same shape, values in [0, 1]; soft targets are allowed.
        valid: The same shape, boolean: the pixels to count. Default: all of them.
        class_weights: `(2,)` weights of background and foreground in the cross entropy. Default: 1 for both.

    Returns:
        A scalar, float32 (float64 for float64 logits). 0 with zero gradients if no pixel is valid.

    Raises:
        ValueError: As `structure_loss`.

    Source:
        The training code of Zhong et al., "Convolution Meets LoRA", ICLR 2024.
    """
    pixels = _prepare(logits, target, valid, class_weights)
    weighted_iou = _weighted_iou_loss(pixels, _border_weight(pixels))
    return _mean_over_pixels(_cross_entropy(pixels), pixels) + _mean_over_images(weighted_iou, pixels)


def balanced_bce_loss(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cross entropy in which foreground and background of the batch weigh the same.

    With `P = sum(t) + 1e-10` and `N = sum(1 - t)` over the valid pixels of the whole batch::

        loss = P / (P + N) * mean(-(N / P) t log p - (1 - t) log(1 - p))
             = mean(-N / (P + N) t log p - P / (P + N) (1 - t) log(1 - p))

    The second form is the one computed. A batch of background alone, or of foreground alone, has a loss (and gradient)
    of practically 0: there is nothing to balance, so such a batch teaches nothing.

    Args:
        logits: `(B, 1, H, W)` or `(B, H, W)`, any floating type.
        target: The same shape, values in [0, 1]; soft targets are allowed.
        valid: The same shape, boolean: the pixels to count. Default: all of them.

    Returns:
        A scalar, float32 (float64 for float64 logits). 0 with zero gradients if no pixel is valid.

    Raises:
        ValueError: As `structure_loss`.

    Source:
        The shadow detection setting of Zhong et al., "Convolution Meets LoRA", ICLR 2024.
    """
    pixels = _prepare(logits, target, valid)
    background = pixels.counted - pixels.target  # 1 - t where the pixel counts, else 0
    positives = pixels.target.sum() + 1e-10
    negatives = background.sum()
    total = positives + negatives
    foreground_term = negatives / total * pixels.target * F.softplus(-pixels.logits)  # softplus(-x) = -log p
    background_term = positives / total * background * F.softplus(pixels.logits)  # softplus(x) = -log(1 - p)
    return _mean_over_pixels(foreground_term + background_term, pixels)


def bce_dice_loss(
    logits: Tensor, target: Tensor, valid: Tensor | None = None, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross entropy over all pixels plus soft Dice loss, the latter per image and then averaged.

    With `l` the cross entropy of each pixel, `p = sigmoid(logits)` and `t` the target::

        dice_b = 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1)
        loss   = mean(l) + mean over images of dice_b

    An image without a valid pixel is left out of the mean over the images.

    Args:
        logits: `(B, 1, H, W)` or `(B, H, W)`, any floating type.
        target: The same shape, values in [0, 1]; soft targets are allowed.
        valid: The same shape, boolean: the pixels to count. Default: all of them.
        class_weights: `(2,)` weights of background and foreground in the cross entropy. Default: 1 for both.

    Returns:
        A scalar, float32 (float64 for float64 logits). 0 with zero gradients if no pixel is valid.

    Raises:
        ValueError: As `structure_loss`.

    Source:
        Dice as a loss: Milletari et al., "V-Net", 3DV 2016 (there with squared terms in the denominator).
    """
    pixels = _prepare(logits, target, valid, class_weights)
    probability = pixels.logits.sigmoid() * pixels.counted
    overlap = (probability * pixels.target).sum((1, 2, 3))
    size = (probability + pixels.target).sum((1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (size + 1)
    return _mean_over_pixels(_cross_entropy(pixels), pixels) + _mean_over_images(dice, pixels)


def _prepare(logits: Tensor, target: Tensor, valid: Tensor | None, class_weights: Tensor | None = None) -> _Pixels:
    if logits.ndim not in (3, 4) or (logits.ndim == 4 and logits.shape[1] != 1):
        raise ValueError(f"logits must have shape (B, 1, H, W) or (B, H, W), not {tuple(logits.shape)}")
    if target.shape != logits.shape:
        raise ValueError(f"target has shape {tuple(target.shape)}, logits {tuple(logits.shape)}: they must be the same")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logits = logits.to(dtype)
    target = target.to(dtype)
    counted = torch.ones_like(target)
    if valid is not None:
        if valid.dtype != torch.bool or valid.shape != logits.shape:
            raise ValueError(
                f"valid must be boolean and of shape {tuple(logits.shape)}, not {valid.dtype} {tuple(valid.shape)}"
            )
        # Filling, unlike multiplying by 0, also removes an infinite or NaN entry, and its gradient is exactly 0.
        logits = logits.masked_fill(~valid, 0)
        target = target.masked_fill(~valid, 0)
        counted = valid.to(dtype)
    if logits.ndim == 3:
        logits, target, counted = logits[:, None], target[:, None], counted[:, None]
    weight = counted
    if class_weights is not None:
        background, foreground = class_weights.to(dtype)
        weight = counted * (background + (foreground - background) * target)
    return _Pixels(logits, target, counted, weight)


def _cross_entropy(pixels: _Pixels) -> Tensor:
    """Cross entropy of each pixel times its weight, (B, 1, H, W); 0 at ignored pixels."""
    return F.binary_cross_entropy_with_logits(pixels.logits, pixels.target, reduction="none") * pixels.weight


def _border_weight(pixels: _Pixels) -> Tensor:
    """1 far from any border, up to 6 at one, (B, 1, H, W); 0 at ignored pixels."""
    reach = BORDER_WINDOW // 2
    # Mean over columns, then over rows: the same mean over the square with 62 additions a pixel in place of 961.
    column_mean = F.avg_pool2d(pixels.target, (BORDER_WINDOW, 1), stride=1, padding=(reach, 0))
    mean = F.avg_pool2d(column_mean, (1, BORDER_WINDOW), stride=1, padding=(0, reach))
    return (1 + BORDER_GAIN * (mean - pixels.target).abs()) * pixels.counted


def _weighted_iou_loss(pixels: _Pixels, weight: Tensor) -> Tensor:
    """1 minus the soft, weighted IoU of each image, (B,); 0 for an image without a valid pixel."""
    probability = pixels.logits.sigmoid()
    overlap = (weight * probability * pixels.target).sum((1, 2, 3))
    both = (weight * (probability + pixels.target)).sum((1, 2, 3))
    return 1 - (overlap + 1) / (both - overlap + 1)


def _mean_over_pixels(values: Tensor, pixels: _Pixels) -> Tensor:
    """Mean over the valid pixels of the batch; `values` must be times their weights."""
    return values.sum() / pixels.weight.sum().clamp(min=_LEAST)


def _mean_over_images(values: Tensor, pixels: _Pixels) -> Tensor:
    """Mean of (B,) `values` over the images that have a valid pixel; `values` must be 0 for the others."""
    images = pixels.counted.amax((1, 2, 3)).sum()
    return values.sum() / images.clamp(min=1)
