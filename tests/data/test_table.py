import re

import pytest

from convlora.data.sources.table import has_columns, read_table
from convlora.errors import InputError
from tests.data.images_on_disk import write_set


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path, {"train": 3})


def write(root, text, encoding="utf-8", name="train.csv"):
    path = root / name
    path.write_bytes(text.encode(encoding))
    return path


def rows(delimiter=",", newline="\n", prefix="train/"):
    lines = [delimiter.join(["image", "label"])]
    lines += [delimiter.join([f"{prefix}images/{i}.png", f"{prefix}masks/{i}.png"]) for i in (2, 0, 1)]
    return newline.join(lines) + newline


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_variants_of_csv(root, delimiter, newline, encoding):
    path = write(root, rows(delimiter, newline), encoding)
    assert has_columns(path)
    samples, problems = read_table(path, need_masks=True)
    assert [sample.name for sample in samples] == ["2", "0", "1"]  # the order of the rows
    assert samples[0].mask == root / "train" / "masks" / "2.png"
    assert problems == []


def test_absolute_paths(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = write(elsewhere, rows(prefix=f"{root}/train/"))
    samples, problems = read_table(path, need_masks=True)
    assert samples[0].image == root / "train" / "images" / "2.png"
    assert problems == []


def test_backslashes_more_columns_quotes_case_and_empty_lines(root):
    text = 'id,"Image", LABEL\n7,"train\\images\\0.png",train\\masks\\0.png\n\n,,\n'
    text += "8, train/images/1.png ,train/masks/1.png\n"
    samples, problems = read_table(write(root, text), need_masks=True)
    assert [sample.name for sample in samples] == ["0", "1"]
    assert samples[0].image.is_file()
    assert problems == []


def test_quoted_names_may_hold_the_delimiter(root):
    (root / "train" / "images" / "0.png").rename(root / "train" / "images" / "a,b.png")
    samples, _ = read_table(write(root, 'image,label\n"train/images/a,b.png",train/masks/0.png\n'), need_masks=True)
    assert [sample.name for sample in samples] == ["a,b"]


def test_same_stems_get_different_names(root):
    text = "image,label\ntrain/images/0.png,train/masks/0.png\ntrain/masks/0.png,train/masks/1.png\n"
    samples, _ = read_table(write(root, text), need_masks=True)
    assert [sample.name for sample in samples] == ["train__images__0", "train__masks__0"]


def test_problems_name_line_and_file(root):
    text = (
        "image,label\ntrain/images/0.png,train/masks/0.png\ntrain/images/9.png,train/masks/0.png\n"
        "train/images/1.png,train/masks/8.png\ntrain/images/2.png,\ntrain/images/0.png,train/masks/1.png\n"
    )
    samples, problems = read_table(write(root, text), need_masks=True)
    assert [sample.image.name for sample in samples] == ["0.png", "0.png"]
    expected = [("line 3", "9.png"), ("line 4", "8.png"), ("line 5", "has no label"), ("line 6", "first in line 2")]
    assert len(problems) == len(expected)
    for problem, parts in zip(problems, expected, strict=True):
        assert all(part in problem.message for part in parts)
    assert [problem.severity for problem in problems] == ["error"] * 3 + ["warning"]


def test_label_is_not_needed_for_images_alone(root):
    path = write(root, "image\ntrain/images/0.png\n")
    assert not has_columns(path)
    assert has_columns(path, need_masks=False)
    samples, problems = read_table(path, need_masks=False)
    assert [(sample.name, sample.mask) for sample in samples] == [("0", None)]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("file,mask\na,b\n", "lacks the columns image and label (found: file, mask)"),
        ("image,mask\na,b\n", "lacks the column label (found: image, mask)"),
        ("", "lacks the columns image and label (found: none)"),
        ("image,label\n" + "x" * 200_000 + ",b\n", "line 2 is not valid CSV"),
    ],
)
def test_tables_that_cannot_be_used_are_named(root, text, part):
    path = write(root, text)
    with pytest.raises(InputError, match=re.escape(part)) as caught:
        read_table(path, need_masks=True)
    assert str(path) in str(caught.value)


def test_other_encodings_are_refused(root):
    path = write(root, rows(), "utf-16")
    assert not has_columns(path)
    with pytest.raises(InputError, match="not UTF-8"):
        read_table(path, need_masks=True)
