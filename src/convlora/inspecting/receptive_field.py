"""Which pixels the centre of the image embedding depends on: the effective receptive field.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from convlora.inspecting.layers import is_block, segmenter_of

_SEED = 0


class Field(NamedTuple):
    """An effective receptive field.

    Attributes:
        strength: How strongly the centre depends on each pixel, `(H, W)`, with the sum 1.
        centre: Centre of the cell, (row, column) in pixels.
    """

    strength: np.ndarray
    centre: tuple[float, float]

    def radius(self, share: float) -> float:
        """Radius in pixels of the circle around the centre that holds a share of the strength."""
        rows, columns = (np.arange(side) + 0.5 - middle for side, middle in zip(self.strength.shape, self.centre))
        distances = np.hypot(rows[:, None], columns[None]).ravel()
        order = np.argsort(distances, kind="stable")
        reached = np.cumsum(self.strength.ravel()[order])
        place = min(int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-9))), len(order) - 1)
        return float(distances[order[place]])


class ReceptiveField:
    """Squares of gradients, summed over images.

    Luo et al. take the gradient of one output. A cell of the embedding has many channels, whose gradients would cancel
    each other in a sum (after a layer norm they do so exactly). So the channels are summed with random signs, and the
    squares are averaged: their mean is the sum of the squared gradients of all channels (Hutchinson's estimator).
    """

    def __init__(self) -> None:
        self.squares: torch.Tensor | None = None
        self._centre = (0.0, 0.0)
        self._generator = torch.Generator().manual_seed(_SEED)

    def add(self, model: Any, pixel_values: torch.Tensor, probes: int = 1) -> None:
        """Adds the gradients at one batch of images.

        Args:
            model: A segmenter, with or without adapters.
            pixel_values: `(B, 3, H, W)`.
            probes: Random signs that are tried.
        """
        pixels = pixel_values.detach().clone().requires_grad_()
        with torch.enable_grad(), _little_memory(model):
            embeddings = segmenter_of(model).get_image_embeddings(pixels)
            height, width = embeddings.shape[-2:]
            centre = embeddings[:, :, height // 2, width // 2]
            for number in range(probes):
                signs = torch.randint(0, 2, centre.shape, generator=self._generator).mul_(2).sub_(1).to(centre)
                (gradient,) = torch.autograd.grad((centre * signs).sum(), pixels, retain_graph=number + 1 < probes)
                squares = gradient.double().square().sum(dim=(0, 1)).cpu()
                self.squares = squares if self.squares is None else self.squares + squares
        cell = pixels.shape[-2] / height, pixels.shape[-1] / width
        self._centre = ((height // 2 + 0.5) * cell[0], (width // 2 + 0.5) * cell[1])

    def field(self) -> Field | None:
        """The root of the mean square; None if nothing depends on any pixel, or nothing was added."""
        if self.squares is None:
            return None
        strength = self.squares.sqrt().numpy()
        total = float(strength.sum())
        return Field(strength / total, self._centre) if np.isfinite(total) and total > 0 else None


@contextmanager
def _little_memory(model: Any) -> Iterator[None]:
    """Computes the blocks of an encoder again in the backward pass, so that a large one fits into memory."""
    blocks = [module for name, module in segmenter_of(model).named_modules() if is_block(name) and "encoder" in name]
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
