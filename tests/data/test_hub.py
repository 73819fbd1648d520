import json

import datasets
import numpy as np
import pytest
from PIL import Image

from convlora.data.checking.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.sources.hub import is_hub_id
from convlora.data.sources.opening import open_data
from convlora.errors import InputError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pictures(count=3, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)) for _ in range(count)]
    masks = [rng.integers(0, classes, (12, 10)).astype(np.uint8) for _ in range(count)]
    return images, masks


def rows(columns=("image", "label"), masks_as=None, **more):
    masks_as = masks_as or datasets.Image()
    images, masks = pictures(**more)
    if isinstance(masks_as, datasets.Image):
        masks = [Image.fromarray(mask) for mask in masks]
    image, mask = columns
    features = datasets.Features({image: datasets.Image(), mask: masks_as})
    return datasets.Dataset.from_dict({image: images, mask: masks}, features=features)


def test_splits_saved_to_disk(tmp_path):
    parts = {"train": rows(), "validation": rows(seed=1), "extra": rows(seed=2)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    (tmp_path / "d" / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c"]}))
    source = open_data(tmp_path / "d")
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 3, "val": 3}
    assert any("'extra'" in note for note in source.notes)
    report = check_data(source, full=True)
    assert not report.errors
    images, masks = pictures()
    image, labels = read_sample(source.split("train")[2], report.classes)
    assert np.array_equal(labels, masks[2])
    assert np.array_equal(np.asarray(image), np.asarray(images[2]))


@pytest.mark.parametrize(
    "columns", [("image", "annotation"), ("pixel_values", "label"), ("photo", "mask"), ("image", "stuff")]
)
def test_columns_are_found_by_name_or_by_being_the_other(tmp_path, columns):
    rows(columns, classes=2).save_to_disk(str(tmp_path / "d"))
    source = open_data(tmp_path / "d")
    assert source.split("test")[0].mask.column == columns[1]
    assert check_data(source, full=False).classes.names == ("background", "foreground")


@pytest.mark.parametrize(
    "kind", [datasets.Array2D((12, 10), "int32"), datasets.List(datasets.List(datasets.Value("int16")))]
)
def test_masks_may_be_tables_of_numbers(tmp_path, kind):
    rows(masks_as=kind, classes=2).save_to_disk(str(tmp_path / "d"))
    source = open_data(tmp_path / "d")
    _, labels = read_sample(source.split("test")[1], check_data(source, full=True).classes)
    assert np.array_equal(labels, pictures(classes=2)[1][1])


def test_without_masks_it_is_told_which_columns_there_are(tmp_path):
    data = datasets.Dataset.from_dict(
        {"image": pictures()[0], "label": [0, 1, 2]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)}),
    )
    data.save_to_disk(str(tmp_path / "d"))
    with pytest.raises(InputError, match="no column of masks; it has: image, label"):
        open_data(tmp_path / "d")
    assert len(open_data(tmp_path / "d", need_masks=False).split("test")) == 3


def test_problems_name_the_row(tmp_path):
    images, masks = pictures()
    data = datasets.Dataset.from_dict(
        {"image": images, "mask": [Image.fromarray(mask[:5]) for mask in masks]},
        features=datasets.Features({"image": datasets.Image(), "mask": datasets.Image()}),
    )
    data.save_to_disk(str(tmp_path / "d"))
    report = check_data(open_data(tmp_path / "d"), full=False)
    assert any("row 1, column mask" in problem.message for problem in report.errors)


def test_damaged_and_unknown_data_sets_are_named(tmp_path):
    rows().save_to_disk(str(tmp_path / "d"))
    for file in (tmp_path / "d").glob("*.arrow"):
        file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is damaged"):
        open_data(tmp_path / "d")
    with pytest.raises(InputError, match="cannot be loaded from the Hugging Face Hub"):
        open_data("nobody/no-such-data-set")
    assert is_hub_id("a/b")
    assert not any(map(is_hub_id, ("data", "/a/b", "../b", "a/b/c", "./a")))


def test_a_test_split_without_masks_is_left_out(tmp_path):
    images, _ = pictures(classes=2)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
    empty = datasets.Dataset.from_dict({"image": images, "label": [None] * 3}, features=features)
    for number, test in enumerate((empty, rows(classes=2).remove_columns("label"))):
        datasets.DatasetDict({"training": rows(classes=2), "test": test}).save_to_disk(str(tmp_path / str(number)))
        source = open_data(tmp_path / str(number))
        assert list(source.splits) == ["train"]
        assert any("has no masks" in note for note in source.notes)


def test_one_label_per_image_is_no_mask(tmp_path):
    images, masks = pictures(classes=2)
    features = datasets.Features(
        {"image": datasets.Image(), "labels": datasets.List(datasets.Value("int64")), "annotation": datasets.Image()}
    )
    columns = {"image": images, "labels": [[1, 2]] * 3, "annotation": [Image.fromarray(mask) for mask in masks]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "d"))
    assert open_data(tmp_path / "d").split("test")[0].mask.column == "annotation"


def test_split_names_that_are_not_known_are_listed(tmp_path):
    datasets.DatasetDict({"part1": rows()}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(InputError, match=r"'part1' .* is not used"):
        open_data(tmp_path / "d")


@pytest.mark.parametrize(
    "form", [{"type": "pandas"}, {"type": "arrow"}, {"type": "numpy"}, {"columns": ["label"]}, {"columns": []}]
)
def test_the_format_that_was_saved_does_not_matter(tmp_path, form):
    data = rows(classes=2).with_format(**form)
    data.save_to_disk(str(tmp_path / "d"))
    assert check_data(open_data(tmp_path / "d"), full=True).problems == []
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(str(tmp_path / "e"))
    assert len(open_data(tmp_path / "e").split("train")) == 3
