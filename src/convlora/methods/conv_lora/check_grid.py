"""Whether the layers of a model see the image where Conv-LoRA takes them to see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from convlora.methods.conv_lora.grid import TokenGrid, images_of

_PROBES = ((0.1, 0.7), (0.3, 0.2), (0.6, 0.9), (0.9, 0.4))  # (down, right), shares of the image


class GridCheck(NamedTuple):
    """What [`check_grid`] found out about a layer.

    Attributes:
        grid: (height, width) of the cells that the layer's input is taken for.
        maps_per_image: More than 1 in windows.
        agrees: Whether every cell of the image that was changed is the cell whose input changed most; None in windows,
            whose place on the image is not known.
    """

    grid: tuple[int, int]
    maps_per_image: int
    agrees: bool | None


@torch.no_grad()
def check_grid(model: nn.Module, batch: torch.Tensor | Mapping[str, Any]) -> dict[str, GridCheck]:
    """Changes single cells of images, and looks where the inputs of the Conv-LoRA layers change most.

    Args:
        model: A model with Conv-LoRA layers; it is called in evaluation mode.
        batch: Images `(B, 3, H, W)`, or all inputs of the model by name, with the images under `"pixel_values"`.

    Returns:
        What was found out, by the name of the layer. A layer that did not run is left out.

    Raises:
        ValueError: If there are no images among the inputs, or a layer cannot read its input.
    """
    inputs = dict(batch) if isinstance(batch, Mapping) else {"pixel_values": batch}
    images = images_of(model, (), inputs)
    if images is None:
        raise ValueError("check_grid needs images (B, C, H, W) that the model's first convolution takes.")
    pixels = inputs["pixel_values"]
    was_training = model.training
    model.eval()
    try:
        before, reach = _inputs(model, inputs), _reach(model)
        found: dict[str, list[GridCheck]] = {}
        for down, right in _PROBES:
            changed, cell = _change(pixels, images.strides or (1, 1), down, right)
            after = _inputs(model, {**inputs, "pixel_values": changed})
            for name, (grid, size, x) in before.items():
                place = _cell_of_change(grid, size, x, after[name][2], images.number)
                agrees = None if place is None else _overlap(place, size, cell, (images.height, images.width), reach)
                found.setdefault(name, []).append(GridCheck(size, x.shape[0] // images.number, agrees))
    finally:
        model.train(was_training)
    return {name: checks[0]._replace(agrees=_all(check.agrees for check in checks)) for name, checks in found.items()}


def _all(values: Any) -> bool | None:
    known = list(values)
    return None if None in known else all(known)


def _inputs(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, tuple[TokenGrid, tuple[int, int], torch.Tensor]]:
    """How the layers read their inputs, and the inputs of their first run."""
    seen: dict[str, tuple[TokenGrid, tuple[int, int], torch.Tensor]] = {}
    hooks = []
    for name, module in model.named_modules():
        settings = getattr(module, "conv_lora_settings", None)
        if not settings:
            continue
        grid: TokenGrid = next(iter(settings.values())).grid

        def look(module: nn.Module, args: Any, name: str = name, grid: TokenGrid = grid) -> None:
            seen.setdefault(name, (grid, grid.read(args[0].shape), args[0].detach().clone()))

        hooks.append(module.register_forward_pre_hook(look))
    try:
        model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _change(
    pixels: torch.Tensor, strides: tuple[int, int], down: float, right: float
) -> tuple[torch.Tensor, tuple[slice, slice]]:
    """Images with other pixels in the first grid's cell at a place, and that cell."""
    cell = tuple(
        slice(start, start + stride)
        for share, length, stride in zip((down, right), pixels.shape[-2:], strides, strict=True)
        for start in [int(share * length) // stride * stride]
    )
    changed = pixels.clone()
    part = changed[..., cell[0], cell[1]]
    noise = torch.randn(part.shape, generator=torch.Generator().manual_seed(0)).to(part)
    part.add_(10 * (pixels.std() + 1e-3) * noise)
    return changed, (cell[0], cell[1])


def _cell_of_change(
    grid: TokenGrid, size: tuple[int, int], x: torch.Tensor, changed: torch.Tensor, images: int
) -> tuple[int, int] | None:
    """(row, column) of the cell whose input changed most; None in windows."""
    if x.shape[0] != images:
        return None
    change = (changed - x).float().square().sum(dim=-1)
    if change.ndim == 2:
        change = change[:, grid.prefix : change.shape[1] - grid.suffix]
    place = int(change.flatten(1).sum(dim=0).argmax())
    return place // size[1], place % size[1]


def _reach(model: nn.Module) -> int:
    """How many cells a change may move: one where convolutions that make a map coarser look beyond their cell."""
    return int(
        any(
            stride > 1 and kernel > stride
            for module in model.modules()
            if isinstance(module, nn.Conv2d)
            for kernel, stride in zip(module.kernel_size, module.stride, strict=True)
        )
    )


def _overlap(
    place: tuple[int, int], size: tuple[int, int], cell: tuple[slice, slice], image: tuple[int, int], reach: int
) -> bool:
    """Whether a cell of a layer's grid lies on pixels of a cell of the image, or at most so many cells beside them."""
    return all(
        own - reach < part.stop / length * count and own + 1 + reach > part.start / length * count
        for own, count, part, length in zip(place, size, cell, image, strict=True)
    )
