"""From decoded images and masks to tensors of the model's size, and random changes of both for training."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from convlora.errors import InputError

# The statistics of ImageNet, with which SAM was trained; fractions of full intensity.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

# How many versions of an image an augmentation makes; None: no two are alike.
VERSIONS: dict[str, int | None] = {"none": 1, "flip": 2, "flips": 4, "strong": None}
AUGMENTATIONS = tuple(VERSIONS)


def resize_image(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """Resizes bilinearly, averaging over the pixels that fall together when it shrinks.

    Args:
        image: An RGB image.
        size: (height, width) in pixels; the aspect ratio is not kept.

    Returns:
        Intensities 0..1, (3, h, w), float32.
    """
    height, width = size
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous().float().div_(255.0)


def normalize(intensities: torch.Tensor) -> torch.Tensor:
    """Standardises intensities 0..1, (..., 3, h, w), with the mean and standard deviation of ImageNet."""
    return (intensities - _per_channel(IMAGE_MEAN, intensities)) / _per_channel(IMAGE_STD, intensities)


def denormalize(pixel_values: torch.Tensor) -> torch.Tensor:
    """Undoes `normalize`: from model input (..., 3, h, w) back to intensities 0..1."""
    restored = pixel_values * _per_channel(IMAGE_STD, pixel_values) + _per_channel(IMAGE_MEAN, pixel_values)
    return restored.clamp(0, 1)


def _per_channel(numbers: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).view(3, 1, 1)


def prepare_image(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """Makes the model's input from an image.

    Args:
        image: An RGB image of any size.
        size: (height, width) in pixels that the model works at.

    Returns:
        `pixel_values`, (3, h, w), float32.
    """
    return normalize(resize_image(image, size))


def prepare_mask(mask: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Resizes class indices to the model's size by taking the nearest pixel.

    Args:
        mask: Class indices (H, W).
        size: (height, width) in pixels.

    Returns:
        Class indices, (h, w), int64.
    """
    rows = _nearest(mask.shape[0], size[0])
    columns = _nearest(mask.shape[1], size[1])
    return torch.from_numpy(mask[rows[:, None], columns].astype(np.int64))


def _nearest(old: int, new: int) -> np.ndarray:
    """For each new pixel the old one under its centre, so that masks do not shift against bilinear images."""
    return ((2 * np.arange(new) + 1) * old) // (2 * new)


class Augmentation:
    """Random changes of an image and its labels, reproducible by seed.

    `"none"` changes nothing; `"flip"` mirrors left and right with probability 0.5; `"flips"` also mirrors up and
    down; `"strong"` adds quarter turns, moderate rotation, scaling, shear and shifts, and changes of colour and
    sharpness. Labels move with the image by nearest neighbour; what comes from outside the image is ignored.

    Quarter turns are done on the pixel grid instead of with kornia's warp, because they are then exact; images that
    are not square are turned by half turns only.

    Args:
        name: One of `AUGMENTATIONS`.
        ignore_index: Label for pixels that come from outside the image.

    Raises:
        InputError: There is no augmentation of that name.

    Source:
        The left-right flip is the augmentation of Zhong et al., "Convolution Meets LoRA" (ICLR 2024); the others
        are this package's own.
    """

    def __init__(self, name: str = "flip", ignore_index: int = 255) -> None:
        if name not in AUGMENTATIONS:
            raise InputError(f"data.augmentation is {name!r}; choose one of {', '.join(AUGMENTATIONS)}.")
        self.name = name
        self.ignore_index = ignore_index
        self._sequence = _build(name)

    def __call__(self, image: torch.Tensor, labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Applies the changes that the seed decides on.

        Args:
            image: Intensities 0..1, (3, h, w), float32.
            labels: Class indices (h, w), int64.
            seed: Any whole number; the same seed makes the same changes. Torch's global generators stay as they are.

        Returns:
            The changed image and labels, of the same shapes and types.
        """
        if self._sequence is None:
            return image, labels
        with torch.random.fork_rng(devices=[]):
            # Only the CPU generator is seeded: torch.manual_seed would also reseed GPUs, which fork_rng leaves out.
            torch.default_generator.manual_seed(seed)
            if self.name == "strong":
                image, labels = _turn(image, labels)
            # Warps fill with zeros; shifting the labels up by one makes that zero mean "outside".
            changed, moved = self._sequence(image[None], (labels + 1)[None, None].float())
        moved = moved[0, 0].round().long()
        labels = torch.where(moved == 0, self.ignore_index, moved - 1)
        return changed[0].clamp(0, 1), labels


def _turn(image: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    is_square = image.shape[-1] == image.shape[-2]
    quarters = int(torch.randint(4, ())) if is_square else 2 * int(torch.randint(2, ()))
    return torch.rot90(image, quarters, (-2, -1)), torch.rot90(labels, quarters, (-2, -1))


def _build(name: str) -> Any:
    """The kornia pipeline of an augmentation, or `None` if there is nothing to do."""
    if name == "none":
        return None
    import kornia.augmentation as K  # slow to import, and not needed for evaluation and prediction

    steps: list[Any] = [K.RandomHorizontalFlip(p=0.5)]
    if name in ("flips", "strong"):
        steps.append(K.RandomVerticalFlip(p=0.5))
    if name == "strong":
        steps += [
            K.RandomAffine(degrees=20.0, translate=(0.1, 0.1), scale=(0.75, 1.5), shear=5.0, p=0.8),
            K.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.05, p=0.8),
            K.RandomGaussianBlur((5, 5), (0.1, 1.0), p=0.2),
        ]
    return K.AugmentationSequential(*steps, data_keys=["image", "mask"])
