import numpy as np
import pytest

from convlora.data.checking.check import check_data
from convlora.data.reading.images import read_image, read_mask
from convlora.data.sources.opening import open_data
from convlora.data.synthetic import TASKS, SceneStyle, draw_scene, write_task


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_task(
        "cells", tmp_path_factory.mktemp("blobs") / "set", num_train=4, num_val=2, num_test=2, size=(96, 128)
    )


def test_it_is_a_clean_binary_data_set(blobs):
    report = check_data(open_data(blobs), full=True)
    assert report.problems == []
    assert report.counts == {"train": 4, "val": 2, "test": 2}
    assert report.classes.names == ("background", "cell")
    assert report.classes.label_map == ((0, 0), (255, 1))
    for background, cell in report.class_pixels.values():
        assert 0.02 < cell / (cell + background) < 0.5


def test_sizes_vary_around_the_one_asked_for(blobs):
    sizes = check_data(open_data(blobs), full=False).image_sizes
    assert sizes.different > 1
    assert sizes.smallest[0] >= 90
    assert sizes.largest[1] <= 160


def test_seed_decides_and_more_samples_leave_the_first_alone(blobs, tmp_path):
    def pixels(root):
        return np.asarray(read_image(root / "train" / "images" / "train_003.png"))

    same = write_task("cells", tmp_path / "same", num_train=5, num_val=0, num_test=0, size=(96, 128))
    other = write_task("cells", tmp_path / "other", num_train=4, num_val=0, num_test=0, size=(96, 128), seed=1)
    assert np.array_equal(pixels(blobs), pixels(same))
    assert not np.array_equal(pixels(blobs), pixels(other))


def test_grey_levels_alone_do_not_find_the_cells(blobs):
    samples = open_data(blobs).splits["train"]
    images = [np.asarray(read_image(sample.image).convert("L")) for sample in samples]
    masks = [read_mask(sample.mask) == 255 for sample in samples]

    def intersection_over_union(threshold):
        found = [image < threshold for image in images]
        both = sum((one & mask).sum() for one, mask in zip(found, masks, strict=True))
        return both / sum((one | mask).sum() for one, mask in zip(found, masks, strict=True))

    assert 0.1 < max(intersection_over_union(threshold) for threshold in range(40, 230, 5)) < 0.65


def test_scenes_have_exact_masks_of_what_is_seen():
    for seed in range(8):
        scene = draw_scene(np.random.default_rng(seed), SceneStyle(size=(96, 128), things=(2, 6)))
        assert scene.image.shape == (96, 128, 3)
        assert scene.image.dtype == np.uint8
        numbers = np.unique(scene.instances)
        assert numbers.tolist() == list(range(numbers[0], numbers[-1] + 1)), "numbered without gaps"
        assert scene.image.std() > 5


def test_a_thing_is_where_its_mask_says():
    # Without texture and distortion, colours inside a mask are alike and change across its border.
    for seed in range(20):
        scene = draw_scene(np.random.default_rng(seed), SceneStyle(things=(1, 1), groups=0.0, distortion=0.0))
        inside = scene.instances > 0
        if not 500 < inside.sum() < 50_000:
            continue
        grey = scene.image.astype(float)
        between = np.abs(grey[inside].mean(axis=0) - grey[~inside].mean(axis=0)).max()
        shifted = np.roll(inside, (40, 40), (0, 1))
        assert between >= np.abs(grey[shifted].mean(axis=0) - grey[~shifted].mean(axis=0)).max() - 1


def test_scenes_are_decided_by_the_generator():
    first, same, other = (draw_scene(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first.image, same.image)
    assert np.array_equal(first.instances, same.instances)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_are_clean_data_sets_in_which_every_class_occurs(name, tmp_path):
    folder = write_task(name, tmp_path / name, num_train=6, num_val=2, num_test=2, size=(96, 96))
    report = check_data(open_data(folder), full=True)
    assert report.problems == []
    assert report.counts == {"train": 6, "val": 2, "test": 2}
    assert report.classes.names == TASKS[name].classes
    assert all(count > 0 for count in report.class_pixels["train"])
