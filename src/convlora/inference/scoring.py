"""Scores of a model on a split, image by image at each image's own size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import read_sample
from convlora.data.readers import shield_readers
from convlora.data.reading.images import Intensity
from convlora.data.reading.stored import volume_of
from convlora.data.sample import Sample
from convlora.data.transforms import resize_image, to_pixel_values
from convlora.inference.answers import recorder_for
from convlora.inference.fitting import FittingBatches
from convlora.inference.members import Members
from convlora.inference.outputs import check_finite, own_map, own_probabilities
from convlora.inference.volume_scores import VolumeScores
from convlora.metrics import BinaryScores, CommonClassBaseline, MultiClassScores, TrivialBaselines
from convlora.models.autocast import autocast


class _OwnSize(Dataset[tuple[torch.Tensor, np.ndarray]]):
    """Images at the model's size, uint8, with labels at their own."""

    def __init__(
        self, samples: Sequence[Sample], classes: ClassTable, image_size: tuple[int, int], intensity: Intensity
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
    intensity: Intensity = "type",
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
        batch_size: Images at a time; fewer where memory runs out.
        precision: `"fp32"`, `"bf16"` or `"fp16"`.
        intensity: How values become 8 bits.
        workers: Processes that read images.
        compile: `"auto"` records the model's operations on a CUDA GPU and replays them; `"none"` does not.
        tta: Whether the answers to an image and its three flips are averaged.
        structure: Whether to compute the slow scores too, see `convlora.metrics.SLOW_SCORES`.
        trivial: Collects the scores of trivial answers along the way.
        images: Receives the name of each image and what it adds to the scores, see
            `convlora.inference.scoring.update_scores`.
        volumes: Receives the slices of volumes.
        progress: Called with the number of images just done.

    Returns:
        The scores collected.
    """
    device = next(model.parameters()).device
    loader = DataLoader(
        _OwnSize(samples, classes, image_size, intensity),
        batch_size=batch_size,
        num_workers=min(workers, len(samples)),
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
    )
    shield_readers(loader)  # else validation would also draw from the global generator, and change training
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
        output = members(to_pixel_values(batch), tta)
        check_finite(output, precision)
        return output

    was_training = model.training
    model.eval()
    try:
        scored = iter(samples)
        for pixels, labels in loader:
            outputs = fitting.outputs(forward, pixels.to(device, non_blocking=True))
            for (output, index), own_labels in zip(outputs, labels):
                added, sample = update_scores(scores, output, index, own_labels), next(scored)
                if images is not None and added is not None:
                    images.append({"image": sample.name, **added})
                if volumes is not None and volume_of(sample.image) is not None:
                    found = own_map(output, index, (own_labels.shape[0], own_labels.shape[1])).cpu().numpy()
                    volumes.update(sample, found, own_labels)
                if trivial is not None:
                    trivial.update(own_labels)
            if progress is not None:
                progress(len(labels))
    finally:
        model.train(was_training)
    return scores


def _collate(items: Iterable[tuple[torch.Tensor, np.ndarray]]) -> tuple[torch.Tensor, list[np.ndarray]]:
    images, labels = zip(*items)
    return torch.stack(images), list(labels)


class Baselines(Protocol):
    """Scores of answers that need no image."""

    def update(self, labels: np.ndarray) -> None:
        """Takes in one image's labels."""

    def compute(self) -> dict[str, dict[str, Any]]:
        """The scores by the name of the answer."""

    def state_dict(self) -> dict[str, Any]:
        """What was collected."""

    def merge(self, other_state: Any) -> None:
        """Adds what another one collected."""


def new_scores(classes: ClassTable, structure: bool = True) -> BinaryScores | MultiClassScores:
    """An empty collection of scores for a task.

    Args:
        classes: The classes.
        structure: Whether to compute the slow scores too: structure measures, and boundary F with several classes.
    """
    if classes.num_classes == 2:
        return BinaryScores(classes.ignore_index, structure=structure)
    return MultiClassScores(classes.names, classes.ignore_index, boundaries=structure)


def new_baselines(classes: ClassTable) -> Baselines:
    """An empty collection of the scores of trivial answers."""
    if classes.num_classes == 2:
        return TrivialBaselines(classes.ignore_index)
    return CommonClassBaseline(classes.names, classes.ignore_index)


def update_scores(
    scores: BinaryScores | MultiClassScores, output: Any, index: int, labels: np.ndarray
) -> dict[str, Any] | None:
    """Scores one image of a model's output at the size of its labels.

    Args:
        scores: Where to.
        output: What the segmenter returned for a batch.
        index: Which image of the batch.
        labels: `(H, W)`.

    Returns:
        What the image adds: of a binary task its scores, else for each class the pixels that are `right`, `true` and
        `predicted`. None if every pixel is ignored.
    """
    size = (labels.shape[0], labels.shape[1])
    if isinstance(scores, BinaryScores):
        return scores.update(own_probabilities(output, index, size)[1].cpu().numpy(), labels)
    before, skipped = scores.confusion.copy(), scores.num_skipped
    scores.update(own_map(output, index, size), labels)
    if scores.num_skipped > skipped:
        return None
    added = scores.confusion - before
    return {
        "right": np.diag(added).tolist(),
        "true": added.sum(axis=1).tolist(),
        "predicted": added.sum(axis=0).tolist(),
    }
