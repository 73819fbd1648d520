import re

import pytest

from convlora.data.sources.folder import likely_split, read_pairs, read_splits
from convlora.errors import InputError
from tests.data.images_on_disk import write_set


def test_splits_are_paired_and_sorted(tmp_path):
    write_set(tmp_path, {"train": 3, "val": 1, "test": 2})
    for name in ("notes.txt", "README", "Thumbs.db"):
        (tmp_path / "train" / "images" / name).touch()
    (tmp_path / "train" / "images" / "._1.png").touch()
    splits, problems = read_splits(tmp_path, need_masks=True)
    assert {split: [sample.name for sample in samples] for split, samples in splits.items()} == {
        "train": ["0", "1", "2"],
        "val": ["0"],
        "test": ["0", "1"],
    }
    assert splits["test"][1].image == tmp_path / "test" / "images" / "1.png"
    assert splits["test"][1].mask == tmp_path / "test" / "masks" / "1.png"
    assert problems == []


def test_suffixes_may_differ_and_may_be_upper_case(tmp_path):
    write_set(tmp_path, {"train": 1})
    (tmp_path / "train" / "images" / "0.png").rename(tmp_path / "train" / "images" / "0.JPG")
    samples, problems = read_pairs(tmp_path / "train", need_masks=True)
    assert [sample.name for sample in samples] == ["0"]
    assert problems == []


def test_all_missing_partners_are_listed(tmp_path):
    write_set(tmp_path, {"train": 4})
    (tmp_path / "train" / "masks" / "1.png").unlink()
    (tmp_path / "train" / "masks" / "2.png").unlink()
    (tmp_path / "train" / "images" / "3.png").unlink()
    samples, problems = read_pairs(tmp_path / "train", need_masks=True)
    assert [sample.name for sample in samples] == ["0"]
    assert [problem.kind for problem in problems] == ["missing-pair"] * 3
    at_fault = ["images/1.png", "images/2.png", "masks/3.png"]
    for problem, file in zip(problems, at_fault, strict=True):
        assert problem.path.endswith(file)
        assert problem.path in problem.message


def test_stems_that_repeat_are_listed(tmp_path):
    write_set(tmp_path, {"train": 1})
    (tmp_path / "train" / "images" / "0.jpg").touch()
    samples, problems = read_pairs(tmp_path / "train", need_masks=True)
    assert len(samples) == 1
    assert [problem.kind for problem in problems] == ["duplicate-stem"]
    assert "0.png" in problems[0].message
    assert "0.jpg" in problems[0].message


def test_masks_folder_by_another_name(tmp_path):
    write_set(tmp_path, {"train": 1})
    (tmp_path / "train" / "masks").rename(tmp_path / "train" / "labels")
    with pytest.raises(InputError, match=re.escape("no folder called masks. Rename ") + ".*labels to masks"):
        read_splits(tmp_path, need_masks=True)
    splits, _ = read_splits(tmp_path, need_masks=False)
    assert [sample.mask for sample in splits["train"]] == [None]


def test_unlabelled_test_images_do_not_keep_one_from_training(tmp_path):
    write_set(tmp_path, {"train": 1, "test": 1})
    (tmp_path / "test" / "masks" / "0.png").unlink()
    (tmp_path / "test" / "masks").rmdir()
    splits, problems = read_splits(tmp_path, need_masks=True)
    assert list(splits) == ["train"]
    assert [(problem.severity, problem.path) for problem in problems] == [("warning", str(tmp_path / "test"))]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Val", "val"), ("VALID", "val"), ("eval", "val"), ("val2017", "val"), ("Test_Set", "test"),
        ("testset", "test"), ("train data", "train"), ("Training", "train"), ("holdout", None),
        ("2017", None), ("contest", None),
    ],
)  # fmt: skip
def test_names_that_are_nearly_those_of_splits(name, split):
    assert likely_split(name) == split


def test_split_without_images_folder(tmp_path):
    write_set(tmp_path, {"train": 1})
    (tmp_path / "val").mkdir()
    _, problems = read_splits(tmp_path, need_masks=True)
    assert [(problem.kind, problem.severity) for problem in problems] == [("empty-split", "error")]
