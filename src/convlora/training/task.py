"""What a task with several classes settles before training: tokens, weights, the score that picks the best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.images import read_mask
from convlora.data.sample import Sample
from convlora.errors import InputError
from convlora.methods.registry import find_method
from convlora.metrics import MULTI_CLASS_SCORES
from convlora.models.detail_file import settled_detail
from convlora.training.config import RunConfig
from convlora.training.effects import Situation

Values = Mapping[int, Mapping[int, int]]  # pixels per value on disk of a mask, by the `id` of its sample

HEAD_ROOM = 1.5  # mask tokens per class of the fullest image: spare ones may split a class that lies in several places
LARGEST_WEIGHT = 10.0


def settle_task(
    config: RunConfig,
    classes: ClassTable,
    samples: Sequence[Sample],
    tell: Callable[[str], None],
    values: Values | None = None,
    tokens: int | None = None,
) -> None:
    """Fills in what the number of classes decides.

    Args:
        config: Settings of the run; changed in place.
        classes: The classes.
        samples: Training and validation images.
        tell: Receives a sentence about the number of mask tokens.
        values: What is known of the masks from a check of the data, see `CheckReport.values`; others are read.
        tokens: Mask tokens of an earlier run, which are kept if they are enough.

    Raises:
        InputError: If a setting does not fit the task, or an image has more classes than there are mask tokens.
    """
    config.model.detail = settled_detail(config.model.detail, config.model.source)
    select_by = config.training.select_by
    if select_by is None:
        config.training.select_by = "iou" if classes.num_classes == 2 else "miou"
    elif classes.num_classes == 2 and select_by in set(MULTI_CLASS_SCORES) - {"accuracy"}:
        raise InputError(f"training.select_by={select_by} is for several classes; use iou.")
    elif classes.num_classes > 2 and select_by not in MULTI_CLASS_SCORES:
        raise InputError(
            f"training.select_by={select_by} is for binary tasks; with {classes.num_classes} classes use one of "
            f"{', '.join(MULTI_CLASS_SCORES)}."
        )
    head = Situation(config, classes.num_classes).head
    if head is not None and head != "binary":
        config.training.loss = None  # that of the head
        if find_method(config.method.name).network is None:
            config.model.head = head
    if head != "mask-classification":
        if head != "binary" or config.model.num_mask_tokens != 1:  # the one number that a binary task may have
            config.model.num_mask_tokens = None
        return
    counts = [classes_in(sample, classes, values) for sample in samples if sample.mask is not None]
    fullest = max(range(len(counts)), key=lambda index: counts[index])
    most = counts[fullest]
    if tokens is not None and tokens >= most and config.model.num_mask_tokens == "auto":
        config.model.num_mask_tokens = tokens
    elif not isinstance(config.model.num_mask_tokens, int):
        config.model.num_mask_tokens = math.ceil(HEAD_ROOM * most)
        tell(f"Mask tokens: {config.model.num_mask_tokens}, for at most {most} classes in one image.")
    elif config.model.num_mask_tokens < most:
        raise InputError(
            f"model.num_mask_tokens is {config.model.num_mask_tokens}, but {samples[fullest].mask} holds {most} "
            "classes. Raise it, or leave it out to have it chosen."
        )


def classes_in(sample: Sample, classes: ClassTable, values: Values | None = None) -> int:
    """Number of classes in a mask, ignored pixels aside."""
    return int((class_sizes(sample, classes, values) > 0).sum())


def class_weights(samples: Sequence[Sample], classes: ClassTable, values: Values | None = None) -> torch.Tensor:
    """Weights `(K,)` of the classes from their share of the pixels, with mean 1 over the pixels' classes.

    `sqrt(mean share / share)`, between 1/10 and 10; 1 for a class that does not occur.
    """
    sizes = sum((class_sizes(sample, classes, values) for sample in samples), np.zeros(classes.num_classes))
    share = sizes / sizes.sum()
    present = share > 0
    weights = np.ones(classes.num_classes)
    weights[present] = np.sqrt(share[present].mean() / share[present])
    return torch.from_numpy(weights.clip(1 / LARGEST_WEIGHT, LARGEST_WEIGHT)).float()


def class_sizes(sample: Sample, classes: ClassTable, values: Values | None) -> np.ndarray:
    """Pixels of each class in a mask, `(K,)`; `values` as of [`settle_task`]."""
    if sample.mask is None:
        return np.zeros(classes.num_classes)
    known = None if values is None else values.get(id(sample))
    if known is not None:
        labels = classes.encode(np.array(list(known), dtype=np.int64), sample.mask)
        kept, pixels = labels != classes.ignore_index, np.array(list(known.values()), dtype=float)
        return np.bincount(labels[kept], weights=pixels[kept], minlength=classes.num_classes)
    labels = classes.encode(read_mask(sample.mask), sample.mask)
    return np.bincount(labels[labels != classes.ignore_index].ravel(), minlength=classes.num_classes).astype(float)
