import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import EpochSampler, SegmentationDataset, read_sample
from convlora.data.sample import Sample
from convlora.data.sources.opening import open_data
from convlora.data.transforms import prepare_image
from convlora.errors import InputError
from tests.data.images_on_disk import noise, save, write_set

CLASSES = ClassTable(("background", "cell"), 255, ((0, 0), (255, 1)))


@pytest.fixture
def samples(tmp_path):
    write_set(tmp_path, {"train": 4}, values=(0, 0, 255))
    return open_data(tmp_path).splits["train"]


def equal(one, other):
    return all(torch.equal(one[key], other[key]) for key in ("pixel_values", "labels", "changes"))


def test_items_have_the_model_size(samples):
    dataset = SegmentationDataset(samples, CLASSES, (24, 20))
    assert len(dataset) == len(list(dataset)) == 4
    item = dataset[1]
    assert item["pixel_values"].shape == (3, 24, 20)
    assert item["labels"].shape == (24, 20)
    assert item["labels"].unique().tolist() == [0, 1]
    assert {item[key].dtype for key in ("pixel_values", "labels")} == {torch.uint8}, "as few bytes as can be"
    inputs = dataset.model_inputs(torch.utils.data.default_collate([dataset[1], dataset[3]]))
    assert inputs.keys() == {"pixel_values", "labels"}
    assert inputs["labels"].dtype == torch.int64
    for place, index in enumerate((1, 3)):
        expected = prepare_image(Image.open(samples[index].image), (24, 20))
        assert torch.equal(inputs["pixel_values"][place], expected)
        assert torch.equal(inputs["labels"][place], dataset[index]["labels"].long())


def test_read_sample_keeps_its_own_size(samples):
    image, labels = read_sample(samples[0], CLASSES)
    assert image.size == (16, 12)
    assert labels.shape == (12, 16)
    assert np.array_equal(np.unique(labels), [0, 1])


@pytest.mark.parametrize("name", ["none", "flip", "strong"])
def test_same_key_same_item_and_other_epochs_differ(samples, name):
    def make(seed=3):
        return SegmentationDataset(samples, CLASSES, (16, 16), name, seed)

    dataset = make()
    keys = [epoch * 4 + index for epoch in range(6) for index in range(4)]
    items = {key: dataset[key] for key in keys}
    again = make()
    assert all(equal(items[key], again[key]) for key in reversed(keys))
    over_epochs = [equal(items[0], items[key]) for key in keys[4::4]]
    assert all(over_epochs) == (name == "none")
    other_seed = make(seed=4)
    assert all(equal(items[key], other_seed[key]) for key in keys) == (name == "none")


def test_global_generator_is_left_alone(samples):
    dataset = SegmentationDataset(samples, CLASSES, (16, 16), "strong")
    before = torch.get_rng_state()
    dataset[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_see_the_same(samples):
    dataset = SegmentationDataset(samples, CLASSES, (16, 16), "flip", seed=1)
    sampler = EpochSampler(4, seed=1)
    sampler.set_epoch(3)
    batches = [
        list(torch.utils.data.DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers))
        for workers in (0, 2)
    ]
    assert all(equal(one, other) for one, other in zip(*batches, strict=True))
    assert len(batches[0]) == 2


@pytest.mark.parametrize("name", ["flip", "strong"])
def test_dataset_can_be_sent_to_another_process(samples, name):
    dataset = SegmentationDataset(samples, CLASSES, (16, 16), name)
    assert equal(dataset[5], pickle.loads(pickle.dumps(dataset))[5])  # noqa: S301  made in this line


def test_ignored_pixels_take_the_value_of_the_table(tmp_path):
    write_set(tmp_path, {"train": 1}, values=(0, 1, 9))
    table = ClassTable(("a", "b"), 9)
    dataset = SegmentationDataset(open_data(tmp_path).splits["train"], table, (12, 16))
    assert dataset[0]["labels"].unique().tolist() == [0, 1, 9]


def test_a_table_that_leaves_the_classes_is_refused(samples):
    with pytest.raises(ValueError, match=re.escape("label_map leads to [7], but the classes are 0 to 1")):
        SegmentationDataset(samples, ClassTable(("a", "b"), 255, ((0, 0), (1, 7), (9, 255))), (16, 16))


def test_intensity_reaches_the_reader(tmp_path):
    write_set(tmp_path, {"train": 1})
    dark = save(tmp_path / "train" / "images" / "0.png", np.arange(192, dtype=np.uint16).reshape(12, 16))
    samples = [Sample(dark, tmp_path / "train" / "masks" / "0.png", "0")]
    by_type = SegmentationDataset(samples, ClassTable(("a", "b")), (12, 16))[0]["pixel_values"]
    by_image = SegmentationDataset(samples, ClassTable(("a", "b")), (12, 16), intensity="image")[0]["pixel_values"]
    assert int(by_type.max()) - int(by_type.min()) < 100
    assert int(by_image.max()) - int(by_image.min()) > 200


def test_size_mismatch_names_both_files_and_sizes(samples):
    save(samples[2].mask, np.zeros((7, 5), np.uint8))
    dataset = SegmentationDataset(samples, CLASSES, (16, 16))
    with pytest.raises(InputError, match="5x7") as caught:
        dataset[2]
    for part in (str(samples[2].image), str(samples[2].mask), "16x12"):
        assert part in str(caught.value)


def test_bad_samples_are_named(samples, tmp_path):
    save(samples[0].mask, noise(0)[..., 0])
    with pytest.raises(InputError, match=re.escape(str(samples[0].mask))):
        SegmentationDataset(samples, CLASSES, (16, 16))[0]
    unlabelled = Sample(samples[1].image, None, "1")
    with pytest.raises(InputError, match="has no mask"):
        read_sample(unlabelled, CLASSES)


def test_keys_out_of_range(samples):
    with pytest.raises(IndexError):
        SegmentationDataset(samples, CLASSES, (16, 16))[-1]
    with pytest.raises(IndexError):
        SegmentationDataset([], CLASSES, (16, 16))[0]


@pytest.mark.parametrize("length", [1, 7, 40])
def test_sampler_permutes_each_epoch(length):
    sampler = EpochSampler(length, seed=2)
    assert len(sampler) == length
    orders = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert keys == list(sampler)
        assert sorted(keys) == list(range(epoch * length, (epoch + 1) * length))
        orders.append(tuple(key % length for key in keys))
    if length == 40:
        assert len(set(orders)) == 4
        other = EpochSampler(length, seed=3)
        assert list(other) != list(orders[0])
        assert orders[0] != tuple(range(length))


def test_sampler_without_shuffling():
    sampler = EpochSampler(5, seed=0, shuffle=False)
    sampler.set_epoch(2)
    assert list(sampler) == [10, 11, 12, 13, 14]
