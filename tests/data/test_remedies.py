"""What a message says to do works when it is done."""

import json
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlora.data.checking.check import check_data
from convlora.data.sources.opening import open_data
from convlora.errors import InputError

SQUARE = [5, 5, 40, 5, 40, 40, 5, 40]


def image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(path)


def mask(path, value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((64, 80), dtype=np.uint8)
    values[10:30, 20:50] = value
    Image.fromarray(values).save(path)


def coco(path, *names):
    content = {
        "images": [{"id": k, "file_name": name, "width": 80, "height": 64} for k, name in enumerate(names)],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 1, "segmentation": [SQUARE]} for k in range(len(names))
        ],
        "categories": [{"id": 1, "name": "x"}],
    }
    path.write_text(json.dumps(content))


def refused(root):
    with pytest.raises(InputError) as caught:
        open_data(root)
    return str(caught.value)


def is_fine(root):
    return not check_data(open_data(root), full=True).errors


@pytest.mark.parametrize("separator", ["/", "\\"])
@pytest.mark.parametrize(("stored", "written"), [("NFC", "NFC"), ("NFC", "NFD"), ("NFD", "NFC")])
def test_label_studios_result_json(tmp_path, separator, stored, written):
    """Its paths come from Windows as well, and from systems that write accents in the other way."""
    names = ["a.png", "b.png", "für.png"]
    for seed, name in enumerate(names):
        image(tmp_path / "images" / unicodedata.normalize(stored, name), seed)
    coco(tmp_path / "result.json", *(f"images{separator}{unicodedata.normalize(written, name)}" for name in names))
    for data in (tmp_path, tmp_path / "result.json"):
        source = open_data(data)
        assert (source.kind, len(source.splits["all"])) == ("coco", 3)
        assert is_fine(data)


def test_several_annotation_files_are_named(tmp_path):
    image(tmp_path / "images" / "a.png")
    image(tmp_path / "images" / "b.png", 1)
    coco(tmp_path / "first.json", "a.png")
    coco(tmp_path / "second.json", "b.png")
    assert "holds several files of COCO annotations: first.json, second.json" in refused(tmp_path)
    (tmp_path / "first.json").rename(tmp_path / "train.json")
    (tmp_path / "second.json").rename(tmp_path / "val.json")
    assert is_fine(tmp_path)


def test_masks_win_over_a_stray_annotation_file(tmp_path):
    image(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png")
    coco(tmp_path / "result.json", "a.png")
    assert open_data(tmp_path).kind == "images"


@pytest.mark.parametrize("nested", ["", "train"])
def test_text_files_are_not_called_masks(tmp_path, nested):
    folder = tmp_path / nested
    for seed in range(3):
        image(folder / "images" / f"{seed}.png", seed)
    (folder / "labels").mkdir()
    for seed in range(3):
        (folder / "labels" / f"{seed}.txt").write_text("crack 12 40 99 120\n")
    said = refused(tmp_path)
    assert "Rename" not in said
    again = tmp_path.with_name(f"{tmp_path.name}-again")
    shutil.copytree(tmp_path, again)
    coco(Path(re.search(r"in COCO's format as (\S+),", said)[1]), "0.png", "1.png", "2.png")
    assert is_fine(tmp_path)

    masks = Path(re.search(r"one PNG per image into (\S+)\.", refused(again))[1])
    for seed in range(3):
        mask(masks / f"{seed}.png")
    assert is_fine(again)


def test_masks_of_another_name_are_renamed(tmp_path):
    image(tmp_path / "images" / "a.png")
    mask(tmp_path / "labels" / "a.png")
    old, new = re.search(r"Rename (\S+) to (masks)\.", refused(tmp_path)).groups()
    Path(old).rename(tmp_path / new)
    assert is_fine(tmp_path)


def test_outlines_of_yolo_are_read(tmp_path):
    for seed in range(3):
        image(tmp_path / "train/images" / f"{seed}.png", seed)
        (tmp_path / "train/labels").mkdir(exist_ok=True)
        (tmp_path / "train/labels" / f"{seed}.txt").write_text("0 .1 .1 .5 .1 .5 .5\n")
    assert open_data(tmp_path).kind == "yolo"
    assert is_fine(tmp_path)


def test_the_layout_of_ade20k_is_read(tmp_path):
    """Its masks have values from 1, and 0 for what is no class."""
    for split in ("training", "validation"):
        for seed in range(2):
            image(tmp_path / "images" / split / f"{split}{seed}.png", seed + len(split))
            mask(tmp_path / "annotations" / split / f"{split}{seed}.png", 1 + seed)
    (tmp_path / "classes.json").write_text('{"classes": ["wall", "building"], "values": [1, 2], "ignore_index": 0}')
    assert is_fine(tmp_path)
    assert {split: len(samples) for split, samples in open_data(tmp_path).splits.items()} == {"train": 2, "val": 2}


def test_the_index_of_a_data_frame_divides_nothing(tmp_path):
    for seed in range(3):
        image(tmp_path / f"{seed}.png", seed)
        mask(tmp_path / f"m{seed}.png")
    (tmp_path / "train.csv").write_text(",image,label\n" + "".join(f"{k},{k}.png,m{k}.png\n" for k in range(3)))
    assert check_data(open_data(tmp_path), full=True).problems == []
    (tmp_path / "train.csv").write_text(
        "split,image,label\n" + "".join(f"{'ab'[k % 2]},{k}.png,m{k}.png\n" for k in range(3))
    )
    (problem,) = check_data(open_data(tmp_path), full=True).problems
    assert "has the column split (a, b), which is not used" in problem.message


@pytest.mark.parametrize("splits", [("test",), ("val", "test")])
def test_data_without_a_training_split_are_not_fit(convlora, tmp_path, splits):
    for split in splits:
        for seed in range(2):
            image(tmp_path / split / "images" / f"{seed}.png", seed + 10 * len(split))
            mask(tmp_path / split / "masks" / f"{seed}.png")
    code, out, _ = convlora("data", "check", tmp_path)
    assert code == 2
    assert f"has no split 'train'; there are: {', '.join(splits)}. Add one to train on." in " ".join(out.split())
    code, out, _ = convlora("data", "check", tmp_path, "--json")
    assert (code, json.loads(out)["ok"]) == (2, False)
    for seed in range(2):
        image(tmp_path / "train" / "images" / f"{seed}.png", seed + 100)
        mask(tmp_path / "train" / "masks" / f"{seed}.png")
    assert convlora("data", "check", tmp_path)[0] == 0


def test_one_image_cannot_be_held_out_and_trained_on(convlora, tmp_path):
    image(tmp_path / "train" / "images" / "0.png")
    mask(tmp_path / "train" / "masks" / "0.png")
    code, out, _ = convlora("data", "check", tmp_path)
    assert code == 2
    assert "has 1 sample to train on and no val split" in " ".join(out.split())
