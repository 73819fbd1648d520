import random

import numpy as np
import pytest
import torch
from PIL import Image

from convlora.data.transforms import (
    AUGMENTATIONS,
    IMAGE_MEAN,
    IMAGE_STD,
    Augmentation,
    denormalize,
    normalize,
    prepare_image,
    prepare_mask,
    resize_image,
)
from convlora.errors import InputError
from tests.data.images_on_disk import noise

SHAPES = pytest.mark.parametrize("shape", [(48, 48), (40, 56)])
NAMES = pytest.mark.parametrize("name", AUGMENTATIONS)


def scene(shape):
    """A smooth lopsided shape, as an image of two grey levels and as labels."""
    rows, columns = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    inside = ((rows - 14) ** 2 / 90 + (columns - 20) ** 2 / 150 < 1) | ((rows > 22) & (rows < 34) & (columns > 25))
    labels = inside.long()
    return labels.float().expand(3, *shape).contiguous(), labels


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
    assert (resize_image(Image.fromarray(stripes), (8, 8)) - 0.5).abs().max() < 0.06


def test_denormalize_undoes_normalize():
    intensities = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(denormalize(normalize(intensities)), intensities, atol=1e-6)


@pytest.mark.parametrize("size", [(12, 16), (24, 32), (7, 9), (1, 1), (100, 3)])
def test_prepare_mask_agrees_with_pillow(size):
    mask = noise(3)[..., 0]
    expected = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    labels = prepare_mask(mask, size)
    assert labels.dtype == torch.int64
    assert np.array_equal(labels.numpy(), np.asarray(expected))


def test_unknown_name_is_refused():
    with pytest.raises(InputError, match="'heavy'; choose one of none, flip, flips, strong"):
        Augmentation("heavy")


@SHAPES
@NAMES
def test_image_and_labels_stay_aligned(name, shape):
    image, labels = scene(shape)
    augmentation = Augmentation(name)
    changed_results = 0
    for seed in range(20):
        changed, moved = augmentation(image, labels, seed)
        assert changed.shape == image.shape
        assert changed.dtype == torch.float32
        assert moved.shape == labels.shape
        assert moved.dtype == torch.int64
        assert set(moved.unique().tolist()) <= {0, 1, 255}
        kept = moved != 255
        # Colours may have changed, but whatever is inside must still be the brighter part, up to blurred edges.
        threshold = (changed[0][kept].max() + changed[0][kept].min()) / 2
        agree = ((changed[0] > threshold) == (moved == 1))[kept].float().mean()
        assert agree > 0.97, (seed, agree)
        changed_results += not torch.equal(moved, labels)
    assert (changed_results == 0) == (name == "none")


@NAMES
def test_same_seed_same_result_other_seed_another(name):
    image, labels = scene((48, 48))
    first = Augmentation(name)
    results = [first(image, labels, seed) for seed in range(12)]
    again = Augmentation(name)
    for seed in reversed(range(12)):  # neither the order nor an earlier call matters
        for before, after in zip(results[seed], again(image, labels, seed), strict=True):
            assert torch.equal(before, after)
    different = {result[0].numpy().tobytes() for result in results}
    assert len(different) == {"none": 1, "flip": 2, "flips": 4}.get(name, 12)


@NAMES
def test_global_generators_are_left_alone(name):
    image, labels = scene((48, 48))
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state()
    expected = (torch.rand(1).item(), np.random.rand(), random.random())
    torch.set_rng_state(before)
    np.random.seed(5)
    random.seed(5)
    Augmentation(name)(image, labels, 1)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


@NAMES
def test_result_does_not_depend_on_global_generators(name):
    image, labels = scene((48, 48))
    results = []
    for state in (1, 2):
        torch.manual_seed(state)
        np.random.seed(state)
        random.seed(state)
        results.append(Augmentation(name)(image, labels, 7)[0])
    assert torch.equal(*results)


def test_flip_mirrors_exactly():
    image, labels = scene((40, 56))
    for seed in range(10):
        changed, moved = Augmentation("flip")(image, labels, seed)
        mirrored = torch.equal(moved, labels.flip(-1))
        assert mirrored or torch.equal(moved, labels)
        assert torch.equal(changed, image.flip(-1) if mirrored else image)


def test_outside_of_the_image_is_ignored_and_ignored_stays_ignored():
    image, _ = scene((48, 48))
    labels = torch.full((48, 48), 9)
    outside = 0
    for seed in range(15):
        _, moved = Augmentation("strong", ignore_index=9)(image, labels, seed)
        assert moved.unique().tolist() == [9]
        _, moved = Augmentation("strong", ignore_index=200)(image, labels * 0, seed)
        assert set(moved.unique().tolist()) <= {0, 200}
        outside += int((moved == 200).sum())
    assert outside > 0
