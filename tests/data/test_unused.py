from pathlib import Path

import pytest

from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from tests.data.images_on_disk import write_set


def table(root, name, folder, more=""):
    stems = sorted(path.stem for path in (root / folder / "images").iterdir())
    lines = ["image,label", *(f"{folder}/images/{stem}.png,{folder}/masks/{stem}.png" for stem in stems)]
    (root / name).write_text("\n".join(lines) + more)


def told(data):
    """Where the warnings point to, and what they say."""
    problems = open_data(data).problems
    assert all(problem.severity == "warning" for problem in problems)
    return {problem.path.rpartition("/")[2]: problem.message for problem in problems}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("Val", "Rename it to val if it is the val split"),
        ("VALIDATION", "Rename it to val if it is the val split"),
        ("eval", "Rename it to val if it is the val split"),
        ("test_set", "Rename it to test if it is the test split"),
        ("train2", "Move its files into train if they are part of that split"),
        ("holdout", "Move its files into train, val or test if they are part of that split"),
    ],
)
def test_folders_beside_splits(tmp_path, name, remedy):
    write_set(tmp_path, {"train": 2, name: 1})
    (tmp_path / name / "images").rename(tmp_path / name / "Images")
    found = told(tmp_path)
    assert list(found) == [name]
    assert f"{tmp_path / name} is not used" in found[name]
    assert remedy in found[name]


def test_other_folders_are_not_spoken_of(tmp_path):
    write_set(tmp_path, {"train": 2, "__MACOSX": 1, ".cache": 1})
    (tmp_path / "notes" / "pages").mkdir(parents=True)
    assert told(tmp_path) == {}


def test_many_other_folders_are_one_warning(tmp_path):
    write_set(tmp_path, {"train": 2, **{f"site{letter}": 1 for letter in "abc"}})
    (message,) = told(tmp_path).values()
    assert f"{tmp_path / 'sitea'} and 2 more folders in {tmp_path} are not used" in message


def test_folders_beside_a_table(tmp_path):
    write_set(tmp_path, {"train": 2, "val": 1, "test": 1})
    table(tmp_path, "train.csv", "train")
    for data in (tmp_path, tmp_path / "train.csv"):
        found = told(data)
        assert list(found) == ["test", "val"]
        assert "List its files in val.csv" in found["val"]
    table(tmp_path, "val.csv", "val")
    table(tmp_path, "test.csv", "test")
    assert told(tmp_path) == {}


def test_folders_that_a_table_names_are_used(tmp_path):
    write_set(tmp_path / "elsewhere", {"b": 1, "c": 1})
    write_set(tmp_path / "data", {"a": 1})
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere" / "b")
    (tmp_path / "data" / "c").mkdir()
    for kind in ("images", "masks"):
        (tmp_path / "data" / "c" / kind).symlink_to(tmp_path / "elsewhere" / "c" / kind)
    rows = [f"../data/{one}/images/0.png,{one}/masks/0.png" for one in "abc"]
    (tmp_path / "data" / "train.csv").write_text("\n".join(["image,label", *rows]))
    assert told(tmp_path / "data") == {}


def test_tables_beside_tables(tmp_path):
    write_set(tmp_path, {"train": 2, "pool": 1})
    table(tmp_path, "train.csv", "train")
    table(tmp_path, "valid.csv", "pool")
    table(tmp_path, "extra.CSV", "pool")
    (tmp_path / "scores.csv").write_text("epoch,loss\n")
    for data in (tmp_path, tmp_path / "train.csv"):
        found = told(data)
        assert list(found) == ["pool", "valid.csv", "extra.CSV"]
        assert "Rename it to val.csv if it is the val split" in found["valid.csv"]
        assert "Put its rows into train.csv, val.csv or test.csv" in found["extra.CSV"]
    assert told(tmp_path / "valid.csv") == {}, "it is what was asked for"


def test_tables_beside_folders(tmp_path):
    write_set(tmp_path, {"train": 2, "pool": 1})
    table(tmp_path, "test_part.csv", "train")
    assert list(told(tmp_path)) == ["pool"], "a table of what is used anyway is no split"
    table(tmp_path, "data.csv", "pool")
    assert "there are folders of images and masks" in told(tmp_path)["data.csv"]


def test_folders_beside_undivided_data(tmp_path):
    write_set(tmp_path, {"train": 2, "Test": 1})
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).rename(tmp_path / kind)
    assert "and rename Test to test" in told(tmp_path)["Test"]


def test_only_tables_of_other_names(tmp_path):
    write_set(tmp_path, {"pool": 2})
    table(tmp_path, "data.csv", "pool")
    with pytest.raises(InputError, match=r"Give .*data\.csv itself, or rename it to train\.csv"):
        open_data(tmp_path)


def test_a_column_of_splits(tmp_path):
    write_set(tmp_path, {"pool": 2})
    rows = [f"pool/images/{index}.png,pool/masks/{index}.png,{split}" for index, split in enumerate(("train", "val"))]
    (tmp_path / "data.csv").write_text("\n".join(["image,label,Split", *rows]))
    assert "has the column split (train, val), which is not used" in told(tmp_path / "data.csv")["data.csv"]
    (tmp_path / "data.csv").write_text("\n".join(["image,label,Split", *rows]).replace("val", "train"))
    assert told(tmp_path / "data.csv") == {}


def test_folders_that_may_not_be_read_do_not_matter(tmp_path, monkeypatch):
    write_set(tmp_path, {"train": 2, "lost+found": 1})
    look = Path.iterdir

    def refuse(folder):
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return look(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert told(tmp_path) == {}
