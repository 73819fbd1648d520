"""Whether an exported file says what the run says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from convlora.data.reading.bands import channels_of
from convlora.errors import RunError
from convlora.inference.outputs import own_probabilities
from convlora.inference.segmenter import Segmenter

# Of probabilities. In single precision programs differ in the order in which they add up; in half, in the third digit
# of what goes from block to block.
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2}
_BATCHES = (1, 2, 3)  # where their size is open


class Agreement(NamedTuple):
    """How far a file is from the run.

    Attributes:
        largest: The largest difference of a probability.
        mean: The mean difference.
        pixels: Share of the pixels whose most probable class is another one.
    """

    largest: float
    mean: float
    pixels: float


class Probes(NamedTuple):
    """Batches of images, and what the run says of them.

    Attributes:
        images: Each `(B, 3, H, W)` uint8.
        probabilities: Each `(B, K, H, W)` float32.
    """

    images: list[np.ndarray]
    probabilities: list[np.ndarray]


def probe(segmenter: Segmenter, batch: int | None) -> Probes:
    """Asks the run before it is exported.

    The images differ in what they show, so that gates choose different experts within one batch: noise, patches of one
    colour, slopes of brightness, and plain black.

    Args:
        segmenter: In single precision on the CPU.
        batch: Images at a time that the file is going to take; None: any number.
    """
    drawn = _pictures(segmenter.image_size, channels_of(segmenter.intensity))
    images = [np.stack([next(drawn) for _ in range(size)]) for size in (_BATCHES if batch is None else [batch])]
    probabilities = []
    for several in images:
        outputs = segmenter.outputs(list(torch.from_numpy(several)))
        answers = [own_probabilities(output, index, segmenter.image_size) for output, index in outputs]
        probabilities.append(torch.stack(answers).numpy())
    return Probes(images, probabilities)


def _pictures(size: tuple[int, int], channels: int = 3) -> Iterator[np.ndarray]:
    """Images `(channels, H, W)` uint8, without end."""
    generator = np.random.default_rng(0)
    height, width = size
    patches = (-(-height // 16), -(-width // 16))
    while True:
        coarse = generator.integers(0, 256, (channels, *patches), np.uint8)
        yield coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
        yield generator.integers(0, 256, (channels, height, width), np.uint8)
        down, right = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
        slopes = [down * right, 1 - down, (down + right) / 2]
        yield (255 * np.stack([np.broadcast_to(slopes[band % 3], size) for band in range(channels)])).astype(np.uint8)
        yield np.zeros((channels, height, width), np.uint8)


def compare(answer: Callable[[np.ndarray], np.ndarray], probes: Probes) -> Agreement:
    """Asks a file what the run was asked.

    Args:
        answer: Runs the file: probabilities of images from 0 to 1.
        probes: What the run said.
    """
    differences, others = [], []
    for images, expected in zip(*probes):
        found = answer(images.astype(np.float32) / 255)
        if found.shape != expected.shape:
            raise RunError(f"The file gives an array of {found.shape} where the run gives {expected.shape}.")
        differences.append(np.abs(found - expected).ravel())
        others.append((found.argmax(axis=1) != expected.argmax(axis=1)).ravel())
    all_differences = np.concatenate(differences)
    return Agreement(float(all_differences.max()), float(all_differences.mean()), float(np.concatenate(others).mean()))


def require(agreement: Agreement, precision: str) -> None:
    """Refuses a file that is too far from the run.

    Raises:
        RunError: If it is, or if it holds values that are no numbers.
    """
    tolerance = TOLERANCE[precision]
    if agreement.largest <= tolerance:  # nan is not
        return
    advice = "Export it with --precision fp32." if precision == "fp16" else "Please report it."
    raise RunError(
        f"The exported file does not agree with the run: probabilities differ by up to {agreement.largest:.2g}, and "
        f"{tolerance:g} is allowed. Nothing was written. {advice}"
    )
