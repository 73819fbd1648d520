"""Scores of a model on a split, image by image at each image's own size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import read_sample
from convlora.data.readers import shield_readers
from convlora.data.reading.bands import Reading
from convlora.data.reading.rows import size_in_rows
from convlora.data.reading.stored import volume_of
from convlora.data.sample import Sample
from convlora.data.transforms import resize_image, to_pixel_values
from convlora.devices import background_threads
from convlora.inference.answers import recorder_for
from convlora.inference.background import in_background
from convlora.inference.fitting import FittingBatches
from convlora.inference.members import Members
from convlora.inference.outputs import check_finite, own_map
from convlora.inference.score_keeping import Baselines, new_baselines, new_scores, update_scores
from convlora.inference.tiled_scoring import Asked, score_in_windows
from convlora.inference.volume_scores import VolumeScores
from convlora.inference.windows import Grid, Tiles
from convlora.metrics import BinaryScores, MultiClassScores
from convlora.models.autocast import autocast

__all__ = ["Baselines", "new_baselines", "new_scores", "passes_over", "score_samples", "update_scores"]


class _OwnSize(Dataset[tuple[torch.Tensor, np.ndarray]]):
    """Images at the model's size, uint8, with labels at their own."""

    def __init__(
        self, samples: Sequence[Sample], classes: ClassTable, image_size: tuple[int, int], intensity: Reading
    ) -> None:
        self.samples, self.classes, self.image_size, self.intensity = samples, classes, image_size, intensity

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, np.ndarray]:
        image, labels = read_sample(self.samples[index], self.classes, self.intensity, self.image_size)
        return resize_image(image, self.image_size), labels


@torch.no_grad()
def score_samples(
    model: torch.nn.Module,
    samples: Sequence[Sample],
    classes: ClassTable,
    *,
    image_size: tuple[int, int],
    batch_size: int = 1,
    precision: str = "fp32",
    intensity: Reading = "type",
    tiles: Tiles | None = None,
    workers: int = 0,
    compile: str = "auto",
    tta: bool = False,
    structure: bool = True,
    trivial: Baselines | None = None,
    images: list[dict[str, Any]] | None = None,
    volumes: VolumeScores | None = None,
    progress: Any = None,
) -> BinaryScores | MultiClassScores:
    """Scores a model's predictions. Only one batch of logits is ever in memory.

    Args:
        model: A segmenter; put into evaluation mode for the duration.
        samples: What to score.
        classes: What the values in the masks mean.
        image_size: (height, width) the model works at.
        batch_size: Images at a time, or windows of one; fewer where memory runs out.
        precision: `"fp32"`, `"bf16"` or `"fp16"`.
        intensity: How values become 8 bits, or which bands are read.
        tiles: How images are cut into windows, as `convlora predict --tile` cuts them; None: each is seen whole.
        workers: Processes that read images, where these are seen whole.
        compile: `"auto"` records the model's operations on a CUDA GPU and replays them; `"none"` does not.
        tta: Whether the answers to an image and its three flips are averaged.
        structure: Whether to compute the slow scores too, see `convlora.metrics.SLOW_SCORES`.
        trivial: Collects the scores of trivial answers along the way.
        images: Receives the name of each image, of a slice that of its volume, and what it adds to the scores, see
            `convlora.inference.scoring.update_scores`.
        volumes: Receives the slices of volumes.
        progress: Called with the number of images just done.

    Returns:
        The scores collected.
    """
    device = next(model.parameters()).device
    scores = new_scores(classes, structure)
    # Weights spread over processes come together in every pass, so all of them must make the same passes.
    is_spread = any(hasattr(parameter, "full_tensor") for parameter in model.parameters())
    fitting = FittingBatches(batch_size, may_shrink=not is_spread)

    members = Members(
        model,
        lambda: None if is_spread else recorder_for(device, compile),
        lambda: autocast(device, precision),
    )

    def forward(batch: torch.Tensor) -> Any:
        output = members(to_pixel_values(batch, intensity), tta)
        check_finite(output, precision)
        return output

    def answer(pixels: torch.Tensor) -> Iterator[tuple[Any, int]]:
        return fitting.outputs(forward, pixels.to(device, non_blocking=True))

    was_training = model.training
    model.eval()
    try:
        if tiles is None:
            data = _OwnSize(samples, classes, image_size, intensity)
            added = _score_whole(scores, data, answer, batch_size, min(workers, len(samples)), device, volumes)
        else:
            asked = Asked(classes, image_size, lambda pixels: answer(torch.stack(list(pixels))))
            added = score_in_windows(scores, samples, asked, tiles, intensity, batch_size, volumes)
        for sample, (labels, own) in zip(samples, added):
            if images is not None and own is not None:
                volume = volume_of(sample.image)
                images.append({"image": sample.name, **({} if volume is None else {"volume": volume}), **own})
            if trivial is not None:
                trivial.update(labels)
            if progress is not None:
                progress(1)
    finally:
        model.train(was_training)
    return scores


def _score_whole(
    scores: BinaryScores | MultiClassScores,
    data: _OwnSize,
    answer: Callable[[torch.Tensor], Iterator[tuple[Any, int]]],
    batch_size: int,
    workers: int,
    device: torch.device,
    volumes: VolumeScores | None,
) -> Iterator[tuple[np.ndarray, dict[str, Any] | None]]:
    """Scores images that are seen whole; yields the labels of each, and what it added."""
    loader = DataLoader(
        data, batch_size=batch_size, num_workers=workers, collate_fn=_collate, pin_memory=device.type == "cuda"
    )
    shield_readers(loader)  # else validation would also draw from the global generator, and change training

    def answered() -> Iterator[tuple[Sample, Any, int, np.ndarray]]:
        given = iter(data.samples)
        for pixels, labels in loader:
            for (output, index), own_labels in zip(answer(pixels), labels):
                yield next(given), output, index, own_labels

    def score(item: tuple[Sample, Any, int, np.ndarray]) -> tuple[np.ndarray, dict[str, Any] | None]:
        sample, output, index, labels = item
        if volumes is not None and volume_of(sample.image) is not None:
            found = own_map(output, index, (labels.shape[0], labels.shape[1])).cpu().numpy()
            volumes.update(sample, found, labels)
        return labels, update_scores(scores, output, index, labels)

    # Beside a CPU's network one thread scores. On other devices the next batch may take the place of an answer.
    threads = background_threads(device, len(data)) if device.type == "cpu" else 0
    yield from in_background(score, answered(), threads, ahead=1)


def passes_over(
    samples: Sequence[Sample],
    tiles: Tiles | None,
    image_size: tuple[int, int],
    batch_size: int,
    intensity: Reading = "type",
) -> int:
    """How many forward passes [`score_samples`] makes, if memory does not run out.

    Args:
        samples: As there, like the others.
        tiles: As there.
        image_size: As there.
        batch_size: As there.
        intensity: As there.

    Raises:
        InputError: If the size of an image cannot be read.
    """
    if tiles is None:
        return math.ceil(len(samples) / batch_size)
    window = tiles.window(image_size)
    sizes = [size_in_rows(sample.image, intensity) for sample in samples]
    grids = [Grid.over(size, window, tiles.overlap, tiles.mirrored) for size in sizes]
    return sum(math.ceil(len(grid) / batch_size) for grid in grids)


def _collate(items: Iterable[tuple[torch.Tensor, np.ndarray]]) -> tuple[torch.Tensor, list[np.ndarray]]:
    images, labels = zip(*items)
    return torch.stack(images), list(labels)
