import numpy as np
import pytest
import torch
from PIL import Image

from convlora.data.transforms import (
    IMAGE_MEAN,
    IMAGE_STD,
    denormalize,
    normalize,
    prepare_image,
    prepare_mask,
    resize_image,
    to_pixel_values,
)
from tests.data.images_on_disk import noise


def test_prepare_image_is_standardised_with_imagenet_statistics():
    flat = Image.new("RGB", (20, 10), (255, 0, 51))
    pixel_values = prepare_image(flat, (16, 24))
    assert pixel_values.shape == (3, 16, 24)
    assert pixel_values.dtype == torch.float32
    for channel, intensity in enumerate((1.0, 0.0, 0.2)):
        expected = (intensity - IMAGE_MEAN[channel]) / IMAGE_STD[channel]
        assert torch.allclose(pixel_values[channel], torch.full((16, 24), expected), atol=1e-6)


def test_shrinking_averages_instead_of_picking():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    resized = resize_image(Image.fromarray(stripes), (8, 8))
    assert resized.dtype == torch.uint8
    assert (resized / 255 - 0.5).abs().max() < 0.06


def test_denormalize_undoes_normalize():
    intensities = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(denormalize(normalize(intensities)), intensities, atol=1e-6)


@pytest.mark.parametrize("size", [(12, 16), (24, 32), (7, 9), (1, 1), (100, 3)])
def test_prepare_mask_agrees_with_pillow(size):
    mask = noise(3)[..., 0]
    expected = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    labels = prepare_mask(mask, size)
    assert labels.dtype == torch.uint8
    assert np.array_equal(labels.numpy(), np.asarray(expected))


def test_more_classes_than_a_byte_holds():
    labels = prepare_mask(np.array([[0, 300], [65535, 7]]), (2, 2))
    assert labels.dtype == torch.int32
    assert labels.tolist() == [[0, 300], [65535, 7]]


def test_whole_batches_are_standardised_as_single_images_are():
    images = torch.from_numpy(np.stack([noise(seed).transpose(2, 0, 1) for seed in range(3)]))
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (IMAGE_MEAN, IMAGE_STD))
    expected = torch.stack([(image.float().div(255.0) - mean) / std for image in images])
    assert torch.equal(to_pixel_values(images), expected)
