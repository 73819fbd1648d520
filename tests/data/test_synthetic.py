import numpy as np
import pytest

from convlora.data.check import check_data
from convlora.data.images import read_image, read_mask
from convlora.data.sources import open_data
from convlora.data.synthetic import write_blobs


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("blobs") / "set", num_train=4, num_val=2, num_test=2, size=(96, 128))


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

    same = write_blobs(tmp_path / "same", num_train=5, num_val=0, num_test=0, size=(96, 128))
    other = write_blobs(tmp_path / "other", num_train=4, num_val=0, num_test=0, size=(96, 128), seed=1)
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
