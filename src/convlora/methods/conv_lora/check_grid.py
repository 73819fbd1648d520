"""Whether the layers of a model see the image where Conv-LoRA takes them to see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from convlora.methods.conv_lora.grid import SeenImages, TokenGrid, first_convolution

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
        batch: Images `(B, C, H, W)`, or all inputs of the model by name, the images among them.

    Returns:
        What was found out, by the name of the layer. A layer that did not run is left out.

    Raises:
        ValueError: If there are no images among the inputs, the model does not begin with a convolution, or a layer
            cannot read its input.
    """
    key = next((key for key in batch if _is_image(batch[key])), None) if isinstance(batch, Mapping) else None
    pixels = batch if isinstance(batch, torch.Tensor) else None if key is None else batch[key]
    if pixels is None or not _is_image(pixels):
        raise ValueError("check_grid needs images (B, C, H, W) among the inputs.")

    def run(images: torch.Tensor) -> None:
        model(images) if key is None else model(**{**cast("Mapping[str, Any]", batch), key: images})

    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        seen = _Seen(model)
        before = seen.of(lambda: run(pixels))
        if seen.images is None:
            raise ValueError("check_grid needs a model that begins with a convolution of the images.")
        found: dict[str, list[GridCheck]] = {}
        for down, right in _PROBES:
            changed, cell = _change(pixels, seen.images, seen.strides, down, right)
            covered = seen.strides[0] * seen.images.rows, seen.strides[1] * seen.images.columns
            after = seen.of(lambda images=changed: run(images))  # type: ignore[misc]
            for name, (grid, size, x) in before.items():
                place = _cell_of_change(grid, size, x, after[name][2], seen.images.number)
                agrees = None if place is None else _overlap(place, size, cell, covered, seen.reach)
                maps = x.shape[0] // (seen.images.number or x.shape[0])
                found.setdefault(name, []).append(GridCheck(size, maps, agrees))
    finally:
        for module, training in modes.items():
            module.training = training
    return {name: checks[0]._replace(agrees=_all(check.agrees for check in checks)) for name, checks in found.items()}


def _is_image(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim == 4


def _all(values: Iterable[bool | None]) -> bool | None:
    """Whether all that are known are true; None if none is known."""
    known = [value for value in values if value is not None]
    return all(known) if known else None


class _Seen:
    """Runs a model and keeps what its Conv-LoRA layers see.

    Attributes:
        images: What the first convolution saw in the last run.
        strides: Pixels per cell of the first convolution, down and to the right.
        reach: How many cells a change may move: one where convolutions that make a map coarser look beyond their cell.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.images: SeenImages | None = None
        stem: Any = first_convolution(model)
        down, right = (1, 1) if stem is None else stem.stride[-2:]
        self.strides: tuple[int, int] = int(down), int(right)
        self.reach = int(
            any(
                stride > 1 and kernel > stride
                for module in model.modules()
                if isinstance(module, nn.Conv2d)
                for kernel, stride in zip(module.kernel_size, module.stride, strict=True)
            )
        )

    def of(self, run: Callable[[], None]) -> dict[str, tuple[TokenGrid, tuple[int, int], torch.Tensor]]:
        """How the layers read their inputs, and the inputs of their first run."""
        seen: dict[str, tuple[TokenGrid, tuple[int, int], torch.Tensor]] = {}
        hooks = []
        for name, module in self.model.named_modules():
            settings = getattr(module, "conv_lora_settings", None)
            if not settings:
                continue
            active = [adapter for adapter in cast("Any", module).active_adapters if adapter in settings]
            if not active:
                continue

            def look(
                module: nn.Module, args: Any, name: str = name, grid: TokenGrid = settings[active[0]].grid
            ) -> None:
                self.images = self.images if grid.watch is None else grid.watch.images
                seen.setdefault(name, (grid, grid.read(args[0].shape), args[0].detach().clone()))

            hooks.append(module.register_forward_pre_hook(look))
        try:
            run()
        finally:
            for hook in hooks:
                hook.remove()
        return seen


def _change(
    pixels: torch.Tensor, images: SeenImages, strides: tuple[int, int], down: float, right: float
) -> tuple[torch.Tensor, tuple[slice, slice]]:
    """Images with other pixels in the first grid's cell at a place, and that cell."""
    shares, cells = (down, right), (images.rows, images.columns)
    starts = [int(share * count) * stride for share, count, stride in zip(shares, cells, strides, strict=True)]
    cell = [slice(start, start + stride) for start, stride in zip(starts, strides, strict=True)]
    changed = pixels.clone()
    part = changed[..., cell[0], cell[1]]
    noise = torch.randn(part.shape, generator=torch.Generator().manual_seed(0)).to(part)
    part.add_(10 * (pixels.std() + 1e-3) * noise)
    return changed, (cell[0], cell[1])


def _cell_of_change(
    grid: TokenGrid, size: tuple[int, int], x: torch.Tensor, changed: torch.Tensor, images: int | None
) -> tuple[int, int] | None:
    """(row, column) of the cell whose input changed most; None in windows, and where nothing changed."""
    if x.shape != changed.shape or x.shape[0] != images:
        return None
    change = (changed - x).float().square().sum(dim=-1)
    if change.ndim == 2:
        change = change[:, grid.prefix : change.shape[1] - grid.suffix]
    change = change.flatten(1).sum(dim=0)
    place = int(change.argmax())
    if change[place] == 0:
        return None
    return place // size[1], place % size[1]


def _overlap(
    place: tuple[int, int], size: tuple[int, int], cell: tuple[slice, slice], image: tuple[int, int], reach: int
) -> bool:
    """Whether a cell of a layer's grid lies on pixels of a cell of the image, or at most so many cells beside them."""
    return all(
        own - reach < part.stop / length * count and own + 1 + reach > part.start / length * count
        for own, count, part, length in zip(place, size, cell, image, strict=True)
    )
