"""Samples as tensors for training, in an order and with augmentations that depend on nothing but the seed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from convlora.data.augmentation import Augmentation
from convlora.data.classes.class_table import ClassTable
from convlora.data.kept import KeptImages
from convlora.data.reading.bands import BandImage, BandReading, Reading, image_of
from convlora.data.reading.images import read_image_size, read_mask
from convlora.data.reading.read import read_as, read_seen, read_size
from convlora.data.sample import Sample, size_mismatch_message
from convlora.data.transforms import normalize, prepare_mask, resize_image
from convlora.data.windows import WindowReader, Windows
from convlora.errors import InputError

_WINDOW = 1  # tells the seed of a window from that of the augmentation


class SampleInputError(InputError):
    """An image or a mask cannot be used, although it looked fine when the data set was checked."""


def read_sample(
    sample: Sample, classes: ClassTable, intensity: Reading = "type", size: tuple[int, int] | None = None
) -> tuple[Image.Image | BandImage, np.ndarray]:
    """Reads an image and its labels at their own size.

    Args:
        sample: What to read; it must have a mask.
        classes: What the values in the mask mean.
        intensity: How values become 8 bits, see `read_image`, or which bands are read.
        size: (height, width) to which the image will be shrunk; it may then be decoded smaller than it is, see
            `read_for_size`. The labels are not.

    Returns:
        The RGB image, or its bands, and class indices (H, W) of the image's own size.

    Raises:
        SampleInputError: A file cannot be read, the sizes differ, or the mask holds values that are no class.
    """
    if sample.mask is None:
        raise SampleInputError(f"{sample.image} has no mask. Add one to train on it or to evaluate with it.")
    try:
        _compare_sizes(sample, intensity)
        labels = classes.encode(read_mask(sample.mask), sample.mask)  # first, while no image is in memory
        if size is None:
            image = read_as(sample.image, intensity)
            image_size = (image.height, image.width)
        else:
            image, image_size = read_seen(sample.image, size, intensity)
        mask_size = (labels.shape[0], labels.shape[1])
        if image_size != mask_size:
            raise InputError(size_mismatch_message(sample, image_size, mask_size))
        return image, labels
    except InputError as error:
        raise SampleInputError(str(error)) from error


def _compare_sizes(sample: Sample, reading: Reading) -> None:
    """Compares what the headers of large files say, before memory is taken for their pixels.

    Raises:
        InputError: The mask has another size, in either direction.
    """
    if not (isinstance(sample.image, Path) and isinstance(sample.mask, Path)):
        return  # others would have to be loaded for it
    image_size, mask_size = read_size(sample.image, reading), read_image_size(sample.mask)
    # The orientation of a PNG file may stand behind its pixels, where the header does not show it.
    if mask_size not in (image_size, image_size[::-1]):
        raise InputError(size_mismatch_message(sample, image_size, mask_size))


class SegmentationDataset(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Images and labels of one split at the model's size, and the changes that the augmentation makes to them.

    An item is asked for by key = epoch * len(dataset) + index, as `EpochSampler` yields them. The augmentation is
    drawn from (seed, epoch, index) alone, so that neither the number of workers nor prefetching nor resuming
    changes what the model sees. Keys below the length are epoch 0.

    Args:
        samples: What to read.
        classes: What the values in the masks mean.
        image_size: (height, width) in pixels that the model works at.
        augmentation: Name of an augmentation, see `Augmentation`.
        seed: Decides all random changes.
        intensity: How values become 8 bits, see `read_image`, or which bands are read.
        kept: Keeps images at the model's size after they are first read. Of windows, which are never the same, none.
        windows: What is cut out of the images instead of seeing them whole, see `convlora.data.windows`. An item is
            then a window, and where it lies is drawn from (seed, epoch, index) too.

    Raises:
        ValueError: Windows are to be kept, or the table gives a value a label that is neither a class nor the ignore
            value. Training does not look at labels again: what `ClassTable.encode` lets through is valid.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: ClassTable,
        image_size: tuple[int, int],
        augmentation: str = "none",
        seed: int = 0,
        intensity: Reading = "type",
        windows: Windows | None = None,
        kept: KeptImages | None = None,
    ) -> None:
        labels = {label for _, label in classes.label_map or ()}
        outside = sorted(labels - {*range(classes.num_classes), classes.ignore_index})
        if outside:
            raise ValueError(f"label_map leads to {outside}, but the classes are 0 to {classes.num_classes - 1}")
        if kept is not None and windows is not None:
            raise ValueError("windows are drawn anew in each epoch: none is seen twice")
        self.samples = list(samples)
        self.classes = classes
        self.image_size = image_size
        self.seed = seed
        self.intensity = intensity
        is_colour = not isinstance(intensity, BandReading) or intensity.is_colour
        self.augmentation = Augmentation(augmentation, classes.ignore_index, is_colour=is_colour)
        self.windows = windows
        self.kept = kept
        self._reader = None if windows is None else WindowReader(classes, windows.size, intensity)

    def __len__(self) -> int:
        return len(self.samples if self.windows is None else self.windows)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        # Without this, Python would count keys upwards and go through the epochs without end.
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: int) -> dict[str, torch.Tensor]:
        """Reads one sample.

        Args:
            key: epoch * len(self) + index.

        Returns:
            For [`SegmentationDataset.model_inputs`], as small as can be: `pixel_values`, (C, h, w), uint8; `labels`,
            (h, w), uint8 (int32 above 255 classes); and `changes`, what [`Augmentation.draw`] drew.

        Raises:
            IndexError: The key is negative, or there are no samples.
            InputError: See `read_sample`.
        """
        if key < 0 or not self.samples:
            raise IndexError(f"key {key} of a dataset of {len(self)} samples")
        epoch, index = divmod(int(key), len(self))
        pixels, labels = self._at_size(epoch, index)
        return {
            "pixel_values": pixels,
            "labels": labels,
            "changes": self.augmentation.draw(_mixed_seed(self.seed, epoch, index), self.image_size),
        }

    def _at_size(self, epoch: int, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """An image, or a window of one, with its labels, at the model's size."""
        found = None if self.kept is None else self.kept.read(index)
        if found is None:
            image, labels = self._read(epoch, index)
            found = resize_image(image, self.image_size), prepare_mask(labels, self.image_size)
            if self.kept is not None:
                self.kept.keep(index, *found)
        return found

    def _read(self, epoch: int, index: int) -> tuple[Image.Image | BandImage, np.ndarray]:
        """An image, or a window of one, with its labels."""
        if self.windows is None or self._reader is None:
            return read_sample(self.samples[index], self.classes, self.intensity, self.image_size)
        number = self.windows.image_of(index)
        rng = np.random.default_rng(_mixed_seed(self.seed, epoch, index, _WINDOW))
        try:
            pixels, labels = self._reader.read(self.samples[number], number, rng)
        except InputError as error:
            raise SampleInputError(str(error)) from error
        return image_of(pixels), labels

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Makes what the model takes of a batch of items, on the device where they are.

        Args:
            batch: The items, stacked.

        Returns:
            `pixel_values`, (B, C, h, w), float32, and `labels`, (B, h, w), int64, changed by the augmentation.
        """
        pixels, labels = self.augmentation.apply(batch["pixel_values"], batch["labels"], batch["changes"])
        return {"pixel_values": normalize(pixels, self.intensity), "labels": labels}


class EpochSampler(torch.utils.data.Sampler[int]):
    """Yields the keys of one epoch of a `SegmentationDataset`, each sample once.

    Args:
        length: Number of samples.
        seed: Decides the order; each epoch has its own.
        shuffle: Whether the order is random.
        windows: What the samples are, if they are windows of images: those of an image come close to each other where
            that saves decoding it again.
    """

    def __init__(self, length: int, seed: int, shuffle: bool = True, windows: Windows | None = None) -> None:
        self.length, self.windows = length, windows
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch (from 0) whose keys come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.length)
        if self.shuffle:
            rng = np.random.default_rng(_mixed_seed(self.seed, self.epoch))
            order = rng.permutation(self.length) if self.windows is None else self.windows.order(rng)
        yield from (self.epoch * self.length + order).tolist()


def _mixed_seed(*numbers: int) -> int:
    """One 32-bit seed out of several numbers, such that neighbouring numbers give unrelated seeds."""
    return int(np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1)[0])
