import json
import re

import pytest

from convlora.data.sources.groups import read_groups
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from tests.data.images_on_disk import write_set


def write_tables(root, splits):
    for split in splits:
        stems = sorted(path.stem for path in (root / split / "images").iterdir())
        lines = ["image,label", *(f"{split}/images/{stem}.png,{split}/masks/{stem}.png" for stem in stems)]
        (root / f"{split}.csv").write_text("\n".join(lines))


def counts(source):
    return {split: len(samples) for split, samples in source.splits.items()}


def test_split_folders(tmp_path):
    write_set(tmp_path, {"train": 2, "val": 1})
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["a", "b"]}))
    source = open_data(str(tmp_path))
    assert (source.kind, counts(source)) == ("folder", {"train": 2, "val": 1})
    assert source.classes_json == tmp_path / "classes.json"


def test_tables_win_over_folders(tmp_path):
    write_set(tmp_path, {"train": 3, "val": 1, "test": 1})
    write_tables(tmp_path, ["train", "val"])
    source = open_data(tmp_path)
    assert (source.kind, counts(source)) == ("csv", {"train": 3, "val": 1})
    assert source.classes_json is None


def test_tables_of_something_else_do_not_win(tmp_path):
    write_set(tmp_path, {"train": 2})
    (tmp_path / "train.csv").write_text("epoch,loss\n1,0.5\n")
    assert open_data(tmp_path).kind == "folder"


def test_train_csv_brings_its_siblings_and_other_names_do_not(tmp_path):
    write_set(tmp_path, {"train": 3, "val": 1, "test": 2})
    write_tables(tmp_path, ["train", "val", "test"])
    (tmp_path / "classes.json").write_text("{}")
    source = open_data(tmp_path / "train.csv")
    assert counts(source) == {"train": 3, "val": 1, "test": 2}
    assert source.classes_json == tmp_path / "classes.json"
    assert counts(open_data(tmp_path / "test.csv")) == {"all": 2}


def test_images_and_masks_alone_are_one_split_that_answers_for_test(tmp_path):
    write_set(tmp_path, {"train": 3})
    source = open_data(tmp_path / "train")
    assert (source.kind, counts(source)) == ("images", {"all": 3})
    assert len(source.split("test")) == len(source.split("all")) == 3
    with pytest.raises(InputError, match="no split 'val'; there are: all"):
        source.split("val")


def test_missing_and_empty_splits_are_named(tmp_path):
    write_set(tmp_path, {"train": 3})
    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "val" / "masks").mkdir()
    source = open_data(tmp_path)
    with pytest.raises(InputError, match="no split 'test'; there are: train, val"):
        source.split("test")
    with pytest.raises(InputError, match=r"'val' .* is empty"):
        source.split("val")


def test_images_alone_when_masks_are_not_needed(tmp_path):
    write_set(tmp_path, {"test": 2})
    for mask in (tmp_path / "test" / "masks").iterdir():
        mask.unlink()
    (tmp_path / "test" / "masks").rmdir()
    with pytest.raises(InputError, match="no folder called masks"):
        open_data(tmp_path)
    assert [sample.mask for sample in open_data(tmp_path, need_masks=False).split("test")] == [None, None]


def test_test_table_without_labels_does_not_keep_one_from_training(tmp_path):
    write_set(tmp_path, {"train": 2, "test": 1})
    write_tables(tmp_path, ["train"])
    (tmp_path / "test.csv").write_text("image\ntest/images/0.png\n")
    source = open_data(tmp_path)
    assert counts(source) == {"train": 2}
    assert [(p.severity, p.path) for p in source.problems] == [("warning", str(tmp_path / "test.csv"))]


def test_problems_of_pairing_are_collected(tmp_path):
    write_set(tmp_path, {"train": 3, "val": 2})
    (tmp_path / "train" / "masks" / "1.png").unlink()
    (tmp_path / "val" / "images" / "0.png").unlink()
    source = open_data(tmp_path)
    assert counts(source) == {"train": 2, "val": 1}
    assert [problem.kind for problem in source.problems] == ["missing-pair", "missing-pair"]


def test_nothing_usable(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").touch()
    (tmp_path / "columns").mkdir()
    (tmp_path / "columns" / "train.csv").write_text("file,mask\na,b\n")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.csv").write_text("image,label\n")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "train.csv").write_text("image,label\na.png,b.png\n")
    for name, part in {
        "absent": "does not exist",
        "empty": "no data set layout that is known",
        "notes.md": "neither a folder nor a CSV or COCO file",
        "columns": "lacks the columns image and label",
        "rows": "no usable sample",
        "gone": "a.png",
    }.items():
        with pytest.raises(InputError, match=re.escape(part)) as caught:
            open_data(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_data_in_an_inner_folder_are_named(tmp_path):
    write_set(tmp_path / "archive" / "My export", {"train": 1})
    with pytest.raises(InputError, match=r"There is one inside: give .*My export"):
        open_data(tmp_path / "archive")


def test_images_alone_are_told_what_they_lack(tmp_path):
    write_set(tmp_path, {"train": 1})
    with pytest.raises(InputError, match="It holds images, but no masks"):
        open_data(tmp_path / "train" / "images")


def test_val_split_is_used_as_it_is(tmp_path):
    write_set(tmp_path, {"train": 3, "val": 2})
    source = open_data(tmp_path)
    train, val = source.train_val(seed=0)
    assert (train, val) == (source.splits["train"], source.splits["val"])
    assert source.notes == []


@pytest.mark.parametrize(("number", "expected"), [(2, 1), (9, 1), (26, 3)])
def test_samples_are_held_out_for_validation(tmp_path, number, expected):
    write_set(tmp_path, {"train": number}, height=2, width=2)
    for path in (tmp_path, tmp_path / "train"):  # a train split without val, and undivided data
        source = open_data(path)
        train, val = source.train_val(seed=3)
        assert len(val) == expected
        assert len(train) == number - expected
        assert {sample.name for sample in train} | {sample.name for sample in val} == {str(i) for i in range(number)}
        assert source.train_val(seed=3) == (train, val)
        assert len(source.notes) == 1
        assert f"{expected} of its {number} samples" in source.notes[0]
    if number == 26:
        assert source.train_val(seed=4)[1] != val


def test_groups_are_held_out_whole(tmp_path):
    write_set(tmp_path, {"train": 12}, height=2, width=2)
    rows = "".join(f"train/images/{number}.png,plant {number % 4}\n" for number in range(12))
    (tmp_path / "groups.csv").write_text("image,group\n" + rows)
    source = open_data(tmp_path)
    groups = read_groups(source, source.splits)
    train, val = source.train_val(seed=0, val_fraction=0.3, groups=groups)
    assert (len(train), len(val)) == (9, 3)
    assert not {groups[id(sample)] for sample in train} & {groups[id(sample)] for sample in val}
    assert "1 of its 4 groups (3 of 12 images) is held out" in source.notes[0]
    with pytest.raises(InputError, match="has one group to train on"):
        source.train_val(seed=0, groups=dict.fromkeys(groups, "plant"))


def test_one_sample_cannot_be_divided(tmp_path):
    write_set(tmp_path, {"train": 1})
    with pytest.raises(InputError, match="has 1 sample to train on"):
        open_data(tmp_path).train_val(seed=0)


def test_training_needs_a_train_split(tmp_path):
    write_set(tmp_path, {"val": 2, "test": 2})
    with pytest.raises(InputError, match="no split 'train'; there are: val, test"):
        open_data(tmp_path).train_val(seed=0)
