"""From decoded images and masks to tensors of the model's size, and from those to the model's input."""

from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from convlora.data.augmentation import intensities
from convlora.data.reading.bands import BandImage, BandReading, Reading

# The statistics of ImageNet, with which SAM was trained; fractions of full intensity.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def resize_image(image: Image.Image | BandImage, size: tuple[int, int]) -> torch.Tensor:
    """Resizes bilinearly, averaging over the pixels that fall together when it shrinks.

    Args:
        image: An RGB image, or bands.
        size: (height, width) in pixels; the aspect ratio is not kept.

    Returns:
        (3, h, w), or as many channels as there are bands, uint8: a quarter of what the model's input takes, on the way
        from a reader to the device.
    """
    height, width = size
    if isinstance(image, BandImage):
        return torch.from_numpy(image.resized(size))
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def to_pixel_values(images: torch.Tensor, reading: Reading = "type") -> torch.Tensor:
    """Makes the model's input from images of its size, on the device where they are.

    Args:
        images: (..., C, h, w), uint8; three channels, or bands.
        reading: How they were read.

    Returns:
        `pixel_values`, (..., C, h, w), float32.
    """
    return normalize(intensities(images), reading)


def statistics_of(reading: Reading) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of what was read, as fractions of full intensity."""
    if isinstance(reading, BandReading) and reading.statistics is not None:
        return reading.statistics
    return IMAGE_MEAN, IMAGE_STD


def normalize(intensities: torch.Tensor, reading: Reading = "type") -> torch.Tensor:
    """Standardises intensities 0..1, (..., C, h, w), with ImageNet's statistics, or those of the bands."""
    mean, std = statistics_of(reading)
    return (intensities - _per_channel(mean, intensities)) / _per_channel(std, intensities)


def denormalize(pixel_values: torch.Tensor) -> torch.Tensor:
    """Undoes `normalize`: from model input (..., 3, h, w) back to intensities 0..1."""
    restored = pixel_values * _per_channel(IMAGE_STD, pixel_values) + _per_channel(IMAGE_MEAN, pixel_values)
    return restored.clamp(0, 1)


def _per_channel(numbers: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
    return _constant(numbers, like.dtype, like.device)


@lru_cache(maxsize=16)
def _constant(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The numbers on the device, sent there once: a GPU waits for what is sent to it from ordinary memory."""
    with torch.inference_mode(False):  # training may be the next to use it
        return torch.tensor(numbers, dtype=dtype, device=device).view(-1, 1, 1)


def prepare_image(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """Makes the model's input from an image.

    Args:
        image: An RGB image of any size.
        size: (height, width) in pixels that the model works at.

    Returns:
        `pixel_values`, (3, h, w), float32.
    """
    return to_pixel_values(resize_image(image, size))


def prepare_mask(mask: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Resizes class indices to the model's size by taking the nearest pixel.

    Args:
        mask: Class indices (H, W).
        size: (height, width) in pixels.

    Returns:
        Class indices, (h, w), uint8 as far as the mask is, else int32.
    """
    rows = _nearest(mask.shape[0], size[0])
    columns = _nearest(mask.shape[1], size[1])
    labels = mask[rows[:, None], columns]
    return torch.from_numpy(labels if labels.dtype == np.uint8 else labels.astype(np.int32))


def _nearest(old: int, new: int) -> np.ndarray:
    """For each new pixel the old one under its centre, so that masks do not shift against bilinear images."""
    return ((2 * np.arange(new) + 1) * old) // (2 * new)
