import random

import kornia.augmentation as K
import numpy as np
import pytest
import torch

from convlora.data.augmentation import AUGMENTATIONS, Augmentation, _sampling
from convlora.errors import InputError

SHAPES = pytest.mark.parametrize("shape", [(48, 48), (40, 56)])
NAMES = pytest.mark.parametrize("name", AUGMENTATIONS)


def scene(shape):
    """A smooth lopsided shape, as an image of two grey levels and as labels."""
    rows, columns = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    inside = ((rows - 14) ** 2 / 90 + (columns - 20) ** 2 / 150 < 1) | ((rows > 22) & (rows < 34) & (columns > 25))
    labels = inside.to(torch.uint8)
    return (labels * 255).expand(3, *shape).contiguous(), labels


def changed_by(augmentation, image, labels, *seeds):
    """The scene once for each seed, in one batch."""
    changes = torch.stack([augmentation.draw(seed, labels.shape) for seed in seeds])
    count = len(seeds)
    return augmentation.apply(image.expand(count, *image.shape), labels.expand(count, *labels.shape), changes)


def test_unknown_name_is_refused():
    with pytest.raises(InputError, match="'heavy'; choose one of none, flip, flips, strong"):
        Augmentation("heavy")


@SHAPES
@NAMES
def test_image_and_labels_stay_aligned(name, shape):
    image, labels = scene(shape)
    images, all_labels = changed_by(Augmentation(name), image, labels, *range(20))
    assert images.shape == (20, *image.shape)
    assert images.dtype == torch.float32
    assert all_labels.shape == (20, *labels.shape)
    assert all_labels.dtype == torch.int64
    for changed, moved in zip(images, all_labels, strict=True):
        assert set(moved.unique().tolist()) <= {0, 1, 255}
        kept = moved != 255
        # Colours may have changed, but whatever is inside must still be the brighter part, up to blurred edges.
        threshold = (changed[0][kept].max() + changed[0][kept].min()) / 2
        agree = ((changed[0] > threshold) == (moved == 1))[kept].float().mean()
        assert agree > 0.97, agree
    assert any(not torch.equal(moved, labels.long()) for moved in all_labels) == (name != "none")


@NAMES
def test_a_batch_is_changed_as_its_images_are_alone(name):
    image, labels = scene((48, 48))
    together = changed_by(Augmentation(name), image, labels, *range(12))
    for seed in reversed(range(12)):  # neither the order nor an earlier call matters
        for all_of_them, alone in zip(together, changed_by(Augmentation(name), image, labels, seed), strict=True):
            assert torch.equal(all_of_them[seed], alone[0])
    different = {changed.numpy().tobytes() for changed in together[0]}
    assert len(different) == {"none": 1, "flip": 2, "flips": 4}.get(name, 12)


@pytest.mark.parametrize(("name", "steps"), [("flip", 1), ("flips", 2)])
def test_the_same_images_as_before_the_batches(name, steps):
    """Earlier versions had kornia change one image at a time, with the global generator seeded for it."""
    kinds = [K.RandomHorizontalFlip(p=0.5), K.RandomVerticalFlip(p=0.5)][:steps]
    sequence = K.AugmentationSequential(*kinds, data_keys=["image", "mask"])
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 9, 14), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (9, 14), generator=generator, dtype=torch.uint8)
    seeds = range(0, 4_000_000_000, 200_000_001)
    changed, moved = changed_by(Augmentation(name), image, labels, *seeds)
    for place, seed in enumerate(seeds):
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(seed)
            before, labels_before = sequence(image[None].float().div(255.0), (labels[None, None] + 1).float())
        assert torch.equal(changed[place], before[0].clamp(0, 1))
        assert torch.equal(moved[place], labels_before[0, 0].round().long() - 1)


@NAMES
def test_global_generators_are_left_alone_and_without_influence(name):
    image, labels = scene((48, 48))
    results = []
    for state in (1, 2):
        torch.manual_seed(state)
        np.random.seed(state)
        random.seed(state)
        before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
        results.append(changed_by(Augmentation(name), image, labels, 7)[0])
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])
        assert random.getstate() == before[2]
    assert torch.equal(*results)


@SHAPES
def test_flips_and_turns_of_strong_move_pixels_exactly(shape):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 200, shape, generator=generator, dtype=torch.uint8)
    augmentation = Augmentation("strong")
    changes = torch.stack([augmentation.draw(seed, shape) for seed in range(40)])
    changes[:, 3:6] = 0  # neither warped nor recoloured nor blurred
    images, all_labels = augmentation.apply(image.expand(40, *image.shape), labels.expand(40, *shape), changes)
    turns = range(4) if shape[0] == shape[1] else (0, 2)
    ways = [
        (rotated.flip(-1) if mirrored else rotated, moved.flip(-1) if mirrored else moved)
        for turn in turns
        for mirrored in (False, True)
        for rotated, moved in [(torch.rot90(image, turn, (-2, -1)), torch.rot90(labels, turn, (-2, -1)))]
    ]
    found = []
    for changed, moved in zip(images, all_labels, strict=True):
        found += [
            number
            for number, (expected, expected_labels) in enumerate(ways)
            if torch.equal(changed, expected / 255) and torch.equal(moved, expected_labels.long())
        ]
    assert len(found) == 40, "each is exactly one of them"
    assert set(found) == set(range(len(ways)))


def test_warps_are_those_of_kornia():
    from kornia.geometry import get_affine_matrix2d, warp_affine

    image = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    how = {"degrees": 17.0, "shear": -4.0, "scale": 1.3, "shift": (0.07, -0.05)}
    augmentation = Augmentation("strong")
    changes = augmentation.draw(0, (40, 56))[None]
    changes[:, :6] = torch.tensor([0, 0, 0, 1, 0, 0])
    changes[:, 6:12] = torch.tensor(_sampling(**how, image_size=(40, 56)))
    warped, _ = augmentation._warp(image, torch.zeros(1, 40, 56, dtype=torch.long), changes)
    matrix = get_affine_matrix2d(
        translations=torch.tensor([[0.07 * 56, -0.05 * 40]]),
        center=torch.tensor([[27.5, 19.5]]),
        scale=torch.tensor([[1.3, 1.3]]),
        angle=torch.tensor([17.0]),
        sx=torch.deg2rad(torch.tensor([-4.0])),
    )
    expected = warp_affine(image, matrix[:, :2], (40, 56), align_corners=False)
    torch.testing.assert_close(warped, expected, rtol=0, atol=2e-4)


def test_outside_of_the_image_is_ignored_and_ignored_stays_ignored():
    image, _ = scene((48, 48))
    labels = torch.full((48, 48), 9, dtype=torch.uint8)
    _, moved = changed_by(Augmentation("strong", ignore_index=9), image, labels, *range(15))
    assert moved.unique().tolist() == [9]
    _, moved = changed_by(Augmentation("strong", ignore_index=200), image, labels * 0, *range(15))
    assert moved.unique().tolist() == [0, 200]


def test_labels_of_many_classes_are_moved_exactly():
    labels = torch.arange(48 * 48, dtype=torch.int32).view(48, 48) + 60000
    image = torch.zeros(3, 48, 48, dtype=torch.uint8)
    _, moved = changed_by(Augmentation("strong", ignore_index=255), image, labels, *range(5))
    assert set(moved.unique().tolist()) <= {255, *labels.flatten().tolist()}
