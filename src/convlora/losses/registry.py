"""Losses by the name a configuration gives them."""

from collections.abc import Callable

from torch import Tensor

from convlora.losses.functional import balanced_bce_loss, bce_dice_loss, structure_loss, structure_loss_mean_bce

LOSSES: dict[str, Callable[..., Tensor]] = {
    "structure": structure_loss,
    "structure-mean-bce": structure_loss_mean_bce,
    "balanced-bce": balanced_bce_loss,
    "bce-dice": bce_dice_loss,
}
"""Name to loss function `(logits, target, valid, class_weights) -> scalar`; balanced ones take no weights."""

BALANCED_LOSSES = ("balanced-bce",)
"""Losses in which both classes weigh the same whatever their weights are: these would cancel."""


def segmentation_loss(
    name: str,
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Apply the loss called `name` to binary logits and integer labels.

    Args:
        name: A key of `LOSSES`.
        logits: `(B, 1, H, W)`, any floating type: the log-odds of the foreground.
        labels: `(B, H, W)` integers: 0 background, 1 foreground, `ignore_index` for pixels that do not count. Not
            checked, see `convlora.losses.check_labels`: any other value is learnt as background.
        ignore_index: The label of the pixels to leave out of value and gradient; any integer but 0 and 1.
        class_weights: `(2,)` weights of background and foreground in the cross entropy.

    Returns:
        A scalar, float32 (float64 for float64 logits). 0 with zero gradients if every pixel is ignored.

    Raises:
        ValueError: If the name is unknown, the shapes do not fit, or there are weights for a balanced loss.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[[0, 1, 255]]])
        >>> logits = torch.tensor([[[[-20.0, 20.0, float("nan")]]]])
        >>> round(segmentation_loss("bce-dice", logits, labels).item(), 6)
        0.0
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; choose one of {', '.join(LOSSES)}")
    if ignore_index in (0, 1):
        raise ValueError(f"ignore_index must be neither 0 nor 1, which are the two classes, but is {ignore_index}")
    if logits.ndim != 4 or logits.shape[1] != 1 or labels.shape != logits[:, 0].shape:
        raise ValueError(
            f"expected logits (B, 1, H, W) and labels (B, H, W), not {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if class_weights is not None and name in BALANCED_LOSSES:
        raise ValueError(f"the loss {name!r} weighs both classes alike already; leave class_weights out")
    weights = {} if class_weights is None else {"class_weights": class_weights}
    foreground = labels == 1
    valid = labels != ignore_index
    return LOSSES[name](logits, foreground[:, None].to(logits.dtype), valid[:, None], **weights)
