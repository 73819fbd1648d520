"""Which image is held out when, without training."""

import csv
import shutil

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convlora.errors import InputError
from convlora.training.config import RunConfig
from convlora.training.folding import assign, fold_images
from convlora.training.run import train
from convlora.training.usable_data import load_data
from tests.data import volumes_on_disk as on_disk


def folding_of(path, folds=3, messages=None, **data):
    config = RunConfig()
    config.update({"data": {"path": str(path), "folds": folds, **data}}, origin="the test")
    tell = (lambda text: None) if messages is None else messages.append
    return fold_images(config, load_data(config, lambda text: None), tell)


def write_groups(folder, rows, header=("image", "group")):
    with (folder / "groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def data(blobs, tmp_path):
    return shutil.copytree(blobs, tmp_path / "data")


@settings(max_examples=10)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=10, max_size=40),
    st.integers(2, 5),
    st.integers(0, 2**32 - 1),
)
def test_no_unit_is_parted_and_no_fold_is_empty(images, folds, seed):
    units, labels = [unit for unit, _ in images], [label for _, label in images]
    if len(set(units)) < folds:
        return
    found = assign(units, labels, folds, seed)
    assert set(found) == set(range(folds))
    assert len(set(zip(units, found, strict=True))) == len(set(units)), "a unit is in one fold"
    assert found == assign(units, labels, folds, seed)


def test_folds_are_alike_in_size_and_in_what_they_show():
    labels = [0] * 20 + [1] * 10 + [2] * 5
    found = np.array(assign(range(35), labels, 5, seed=3))
    assert np.bincount(found).tolist() == [7] * 5
    assert [np.bincount(found[:20]).tolist(), np.bincount(found[30:]).tolist()] == [[4] * 5, [1] * 5]
    assert found.tolist() != assign(range(35), labels, 5, seed=4)


def test_every_image_of_train_and_val_is_held_out_once(data):
    folding = folding_of(data)
    names = sorted(path.stem for split in ("train", "val") for path in (data / split / "images").iterdir())
    held_out = []
    for fold in range(3):
        train, val = folding.train_val(fold)
        assert {one.image for one in train}.isdisjoint(one.image for one in val)
        assert len(train) + len(val) == len(names)
        held_out += [one.name for one in val]
    assert sorted(held_out) == names
    assert not folding.has_groups


def test_groups_and_copies_stay_together(data):
    images = data / "train" / "images"
    for copied, name in (("train_000", "copy"), ("train_003", "again")):
        split = "val" if name == "copy" else "train"
        for kind in ("images", "masks"):
            shutil.copy(data / "train" / kind / f"{copied}.png", data / split / kind / f"{name}.png")
    write_groups(
        data,
        [("train/images/train_000.png", "a"), ("train_001.png", "a"), ("val_000", "a"), (images / "train_002.png", "b"),
         ("train_004", "b"), ("test_000", "t")],
    )  # fmt: skip
    messages = []
    for seed in range(5):
        folding = folding_of(data, split_seed=seed, messages=messages)
        fold = {one.sample.name: one.fold for one in folding.images}
        assert fold["train_000"] == fold["train_001"] == fold["val_000"] == fold["copy"]
        assert fold["train_002"] == fold["train_004"]
        assert fold["train_003"] == fold["again"]
        for number in range(3):
            train, val = folding.train_val(number)
            contents = {one.image.read_bytes() for one in train}
            assert all(one.image.read_bytes() not in contents for one in val)
    assert folding.tested == {"test_000": "t"}
    assert any("2 images are copies of others" in text for text in messages)
    assert not any("test" in text for text in messages)
    with (data / "groups.csv").open("a") as file:
        file.write("test_001,a\n")
    folding_of(data, messages=messages)
    assert any("group a has test images" in text for text in messages)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("train_000", "a"), ("nobody", "b")], "line 3 names nobody, which is no image"),
        ([("train_000", "")], "line 2 lacks the group"),
        ([("", "a")], "line 2 lacks the image"),
        ([("train_000", "a"), ("train/images/train_000.png", "b")], "to the group a in line 2 and to b in line 3"),
        ([("train_000", "a"), ("train_000.png", "a"), ("same", "a")], "line 4 names same, which could be 2 images"),
    ],
)
def test_wrong_groups_are_refused(data, rows, message):
    for path in [
        data / split / kind / f"{split}_002.png" for split in ("train", "val") for kind in ("images", "masks")
    ]:
        path.rename(path.with_name("same.png"))
    write_groups(data, rows)
    with pytest.raises(InputError, match=message):
        folding_of(data)


def test_strange_tables_are_refused(data):
    write_groups(data, [("train_000", "a")], header=("file", "patient"))
    with pytest.raises(InputError, match=r"groups\.csv needs the columns image and group"):
        folding_of(data)
    (data / "groups.csv").write_bytes(b"image,group\n\xff\xfe,a\n")
    with pytest.raises(InputError, match=r"groups\.csv is not UTF-8"):
        folding_of(data)
    (data / "groups.csv").unlink()
    (data / "groups.csv").symlink_to("nowhere.csv")
    with pytest.raises(InputError, match=r"groups\.csv cannot be read"):
        folding_of(data)


def test_more_folds_than_groups(data):
    with pytest.raises(InputError, match=r"--folds is 20, but .* has only 9 images"):
        folding_of(data, folds=20)
    write_groups(data, [(f"train_{number:03d}", "one") for number in range(6)])
    with pytest.raises(InputError, match=r"--folds is 5, but the 9 images of .* make only 4 groups"):
        folding_of(data, folds=5)


def test_rows_of_images_that_are_left_out_are_passed_over(data):
    (data / "train" / "images" / "train_000.png").write_bytes(b"")
    (data / "train" / "masks" / "train_001.png").unlink()
    write_groups(data, [("train_000", "a"), ("train/images/train_001.png", "a"), ("train_002", "a")])
    folding = folding_of(data, on_bad_image="skip")
    assert {one.sample.name: one.group for one in folding.images if one.group} == {"train_002": "a"}
    assert len(folding.images) == 7


def test_tables(blobs, tmp_path):
    for split in ("train", "val"):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            pairs = [
                (blobs / split / "images" / path.name, path) for path in sorted((blobs / split / "masks").iterdir())
            ]
            csv.writer(file).writerows([("image", "label"), *pairs])
    write_groups(tmp_path, [("train_000.png", "a"), ("val_002.png", "a")])
    for path in (tmp_path, tmp_path / "train.csv"):
        fold = {one.sample.name: one.fold for one in folding_of(path).images}
        assert len(fold) == 9
        assert fold["train_000"] == fold["val_002"]


def test_saved_data_sets_whose_rows_have_the_same_names_in_every_split(blobs, tmp_path):
    def part(split):
        paths = sorted((blobs / split / "images").iterdir())
        pairs = [(Image.open(path), Image.open(blobs / split / "masks" / path.name)) for path in paths]
        return datasets.Dataset.from_dict(
            {"image": [one for one, _ in pairs], "mask": [one for _, one in pairs]},
            features=datasets.Features({"image": datasets.Image(), "mask": datasets.Image()}),
        )

    datasets.DatasetDict({"train": part("train"), "validation": part("val")}).save_to_disk(tmp_path / "saved")
    write_groups(tmp_path / "saved", [("train/000000", "a"), ("val/000001", "a"), ("000005", "a")])
    folding = folding_of(tmp_path / "saved")
    fold = {one.sample.name: one.fold for one in folding.images}
    assert len(fold) == len(folding.images) == 9
    assert fold["train__000000"] == fold["val__000001"] == fold["000005"]
    write_groups(tmp_path / "saved", [("000001", "a")])
    with pytest.raises(InputError, match="000001, which could be 2 images"):
        folding_of(tmp_path / "saved")


def test_rare_classes_are_spread(tmp_path):
    for number in range(12):
        mask = np.zeros((32, 32), np.uint8)
        mask[:8] = 1
        mask[-4:] = 2 if number < 3 else 1
        rng = np.random.default_rng(number)
        for kind, pixels in (("images", rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)), ("masks", mask)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{number:02d}.png")
    (tmp_path / "data" / "classes.json").write_text('{"classes": ["a", "b", "rare"]}')
    for seed in range(4):
        folding = folding_of(tmp_path / "data", split_seed=seed)
        assert {one.fold for one in folding.images[:3]} == {0, 1, 2}


def test_volumes_are_grouped_as_wholes(tmp_path):
    """By the name of the file; a volume one of whose slices alone has a row stays whole, too."""
    for seed, name in enumerate(("a.nii", "b.nii.gz", "c.nii", "d.nii", "e.nii")):
        values, mask = on_disk.spheres((12, 12, 4), seed)
        split = "test" if name == "e.nii" else "train"
        on_disk.write_nifti(tmp_path / split / "images" / name, values)
        on_disk.write_nifti(tmp_path / split / "masks" / name, mask | (seed + np.arange(4) == 2).astype(np.uint8))
    write_groups(tmp_path, [("train/images/a.nii", "p"), ("b.nii.gz", "p"), ("c", "q"), ("d__0002", "q")])
    for seed in range(3):
        folding = folding_of(tmp_path, folds=2, split_seed=seed, value_range=[-160, 240])
        folds = {}
        for one in folding.images:
            folds.setdefault(one.sample.image.volume, set()).add(one.fold)
        assert folds["a"] == folds["b"] != folds["c"] == folds["d"]
        assert all(len(numbers) == 1 for numbers in folds.values())
    assert set(folding.tested.values()) == {"test/e"}, "of test volumes the interval draws whole ones, too"


def test_training_holds_out_whole_groups(data, tmp_path):
    """As folds do; a row about an image that is left out does no harm."""
    shutil.rmtree(data / "val")
    images = sorted((data / "train" / "images").iterdir())
    write_groups(data, [(one.name, f"plant {place % 3}") for place, one in enumerate(images)])
    (data / "train" / "masks" / f"{images[0].stem}.png").write_bytes(b"no mask")
    config = RunConfig()
    config.update({"data": {"path": str(data), "on_bad_image": "skip"}}, origin="the test")
    used = load_data(config, lambda text: None)
    groups = used.groups()
    train, val = used.source.train_val(0, 0.3, groups)
    assert len(train) + len(val) == len(images) - 1
    assert val
    assert not {groups[id(one)] for one in train} & {groups[id(one)] for one in val}


def test_wrong_groups_stop_training_where_nothing_is_held_out_too(data, make_config, tmp_path_factory):
    config = make_config(epochs=1)
    config.data.path = str(data)
    write_groups(data, [("no such image", "a")])
    output = tmp_path_factory.mktemp("out") / "run"
    with pytest.raises(InputError, match="no such image"):
        train(config, output)
    assert not (output / "adapter").exists()
