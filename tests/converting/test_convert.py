"""What holds for all forms: splits, names, whole folders or none, hostile files, and the command."""

import csv
import json
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import convlora
from convlora.api.convert_data import convert_data
from convlora.cli.main import app
from convlora.data.classes.classes_json import read_classes_json
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from convlora.prepare import bundles
from tests.converting import sources
from tests.converting.sources import INSIDE, SIZE


def counts(source, output, **options):
    return convert_data(source, output, **options)["counts"]


def test_data_without_splits_are_divided_by_seed(tmp_path):
    root = sources.pairs(tmp_path / "p", 20)
    made = convert_data(root, tmp_path / "a")
    assert made["counts"] == {"train": 14, "val": 3, "test": 3}
    assert any("70 / 15 / 15" in note for note in made["notes"])
    convert_data(root, tmp_path / "b")
    convert_data(root, tmp_path / "c", seed=1)
    names = [set(sources.read(tmp_path / name)) for name in "abc"]
    assert names[0] == names[1] != names[2]
    assert counts(root, tmp_path / "d", split="none") == {"all": 20}
    assert counts(root, tmp_path / "e", split="80/20") == {"train": 16, "val": 4}


def test_equal_images_stay_in_one_split(tmp_path):
    root = sources.pairs(tmp_path / "p", 8)
    for number in range(8):
        (root / f"copy{number}.jpg").write_bytes((root / f"{number}.jpg").read_bytes())
        (root / f"copy{number}_mask.png").write_bytes((root / f"{number}_mask.png").read_bytes())
    convert_data(root, tmp_path / "d")
    split_of = {}
    for path in (tmp_path / "d").glob("*/images/*"):
        split_of.setdefault(path.read_bytes(), set()).add(path.parts[-3])
    assert len(split_of) == 8
    assert all(len(splits) == 1 for splits in split_of.values())


@pytest.mark.parametrize("threshold", [None, 128])
def test_images_of_a_group_stay_in_one_split(tmp_path, threshold):
    root = sources.pairs(tmp_path / "p", 12)
    rows = [f"{number}.jpg,plant {number % 4}" for number in range(11)]  # the last one has no row
    (root / "groups.csv").write_text("\n".join(["image,group", *rows]), encoding="utf-8")
    convert_data(root, tmp_path / "d", threshold=threshold)
    with (tmp_path / "d" / "groups.csv").open(encoding="utf-8", newline="") as file:
        told = {row["image"]: row["group"] for row in csv.DictReader(file)}
    assert len(told) == 11
    assert all((tmp_path / "d" / image).is_file() for image in told)
    splits_of = {}
    for image, group in told.items():
        splits_of.setdefault(group, set()).add(image.split("/")[0])
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert set().union(*splits_of.values()) > {"train"}


def test_what_is_in_no_split_of_several_is_for_training(tmp_path):
    for number, name in enumerate(("a", "b", "test/a", "val/a")):
        sources.image(tmp_path / "l" / f"{name}.jpg", number)
        shapes = [{"label": "crack", "points": sources.CORNERS}]
        sources.labelme_file(
            tmp_path / "l" / f"{name}.json", shapes, imagePath="a.jpg" if "/" in name else f"{name}.jpg"
        )
    made = convert_data(tmp_path / "l", tmp_path / "d")
    assert made["counts"] == {"train": 2, "val": 1, "test": 1}
    assert any("in no split" in note for note in made["notes"])


def test_soft_masks_in_folders_of_our_own(tmp_path):
    for number in range(4):
        sources.image(tmp_path / "f/images" / f"{number}.png", number)
        (tmp_path / "f/masks").mkdir(exist_ok=True)
        soft = Image.fromarray(np.where(INSIDE, 230, 12).astype(np.uint8))
        soft.putpixel((0, 0), 100)
        soft.save(tmp_path / "f/masks" / f"{number}.png")
    with pytest.raises(InputError, match="--threshold"):
        convert_data(tmp_path / "f", tmp_path / "d")
    made = convert_data(tmp_path / "f", tmp_path / "d", threshold=128, split="none")
    assert made["format"] == "images"
    assert all(np.array_equal(one, INSIDE) for one in sources.read(tmp_path / "d").values())
    (tmp_path / "f" / "classes.json").write_text('{"classes": ["soil", "crack"]}')
    convert_data(tmp_path / "f", tmp_path / "n", threshold=128, split="none")
    assert read_classes_json(tmp_path / "n" / "classes.json").names == ("soil", "crack")
    (tmp_path / "f" / "classes.json").write_text('{"classes": ["soil", "crack", "joint"]}')
    with pytest.raises(InputError, match="names 3"):
        convert_data(tmp_path / "f", tmp_path / "m", threshold=128, split="none")
    with pytest.raises(InputError, match="name their classes"):
        convert_data(sources.yolo(tmp_path / "y"), tmp_path / "e", threshold=128)


def test_a_missing_split_is_cut_from_train_and_said(tmp_path):
    root = sources.yolo(tmp_path / "y", splits=("train", "test"), number=10)
    made = convert_data(root, tmp_path / "d")
    assert made["counts"] == {"train": 8, "val": 2, "test": 10}
    assert any("no val split" in note for note in made["notes"])
    assert counts(root, tmp_path / "e", split="none") == {"train": 10, "test": 10}
    whole = sources.yolo(tmp_path / "w")
    with pytest.raises(InputError, match="no effect"):
        convert_data(whole, tmp_path / "f", split="80/10/10")


def test_images_that_lie_on_their_side_get_masks_that_fit(tmp_path):
    """Drawn upright, as tools show it; and a mask that was drawn on the stored pixels."""
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    drawn = sources.yolo(tmp_path / "y", splits=("train",), number=3)
    stored = tmp_path / "p"
    for number in range(3):
        sources.image(drawn / f"train/images/{number}.jpg", number, SIZE[::-1], exif=exif)
        sources.image(stored / f"{number}.jpg", number, SIZE[::-1], exif=exif)
        sources.mask(stored / f"{number}_mask.png", 255 * np.rot90(INSIDE))
    convert_data(drawn, tmp_path / "a", split="none")
    made = convert_data(stored, tmp_path / "b", split="none")
    assert all(np.array_equal(one, 2 * INSIDE) for one in sources.read(tmp_path / "a").values())
    assert all(np.array_equal(one, INSIDE) for one in sources.read(tmp_path / "b").values())
    assert any("3 masks were turned" in note for note in made["notes"])


def test_broken_files_are_left_out_and_named(tmp_path):
    root = sources.pairs(tmp_path / "p", 8)
    (root / "3.jpg").write_bytes((root / "3.jpg").read_bytes()[:300])
    sources.mask(root / "4_mask.png", 255 * INSIDE[:20])
    (root / "5_mask.png").unlink()
    (root / "6.jpg").unlink()
    made = convert_data(root, tmp_path / "d", split="none")
    assert made["counts"] == {"all": 4}
    said = " ".join(problem["message"] for problem in made["problems"])
    assert all(name in said for name in ("3.jpg", "4.jpg", "5.jpg", "6_mask.png"))
    assert len(list((tmp_path / "d/images").iterdir())) == len(list((tmp_path / "d/masks").iterdir())) == 4


def test_names_become_safe_and_differ(tmp_path):
    root = tmp_path / "p"
    for name in ("a b", "a:b", "a_b", "con", "ß?"):
        sources.image(root / f"{name}.png", 3)
        sources.mask(root / f"{name}_mask.png", 255 * INSIDE)
    convert_data(root, tmp_path / "d", split="none")
    stems = [path.stem for path in (tmp_path / "d/images").iterdir()]
    assert sorted(stems) == sorted(path.stem for path in (tmp_path / "d/masks").iterdir())
    assert len({stem.lower() for stem in stems}) == 5
    assert not any(set(stem) & set(' :?*"<>|') or stem.lower() == "con" for stem in stems)


def test_nothing_is_written_over_or_left_behind(tmp_path):
    root = sources.pairs(tmp_path / "p")
    sources.text(tmp_path / "d/own.txt", "mine")
    with pytest.raises(InputError, match="not empty"):
        convert_data(root, tmp_path / "d")
    for number in range(6):
        (root / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(InputError):
        convert_data(root, tmp_path / "e")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "p"]
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["own.txt"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"format": "nonsense"}, "--format"),
        ({"threshold": 0}, "--threshold"),
        ({"split": "half"}, "--split"),
        ({"instances": "all"}, "--instances"),
        ({"format": "yolo", "suffix": "_m"}, "--suffix"),
        ({"suffix": "../x"}, "--suffix"),
        ({"format": "voc"}, "SegmentationClass"),
        ({"instances": "border"}, "--format instances"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_settings_that_mean_nothing_are_errors(tmp_path, options, named):
    root = sources.yolo(tmp_path / "y")
    with pytest.raises(InputError, match=named):
        convert_data(root, tmp_path / "d", **options)
    assert not (tmp_path / "d").exists()


def archive(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../out.jpg", "/out.jpg", "a/../../out.jpg", "C:out.jpg", "..\\out.jpg"])
def test_archives_write_nowhere_else(tmp_path, name):
    (tmp_path / "in").mkdir()
    bad = archive(tmp_path / "in/bad.zip", [("a.jpg", b"x"), (name, b"x")])
    with pytest.raises(InputError, match="leads out"):
        convert_data(bad, tmp_path / "in/d")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "bad.zip"]


def test_archives_that_unpack_to_too_much_or_hold_links(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "_ALWAYS_READ", 1 << 16)
    bomb = archive(tmp_path / "bomb.zip", [(f"{number}.bmp", bytes(1 << 16)) for number in range(3)])
    with pytest.raises(InputError, match="not to be trusted"):
        convert_data(bomb, tmp_path / "d")
    link = zipfile.ZipInfo("secret.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    sources.image(tmp_path / "outside.jpg")
    bad = archive(tmp_path / "link.zip", [(link, str(tmp_path / "outside.jpg")), ("secret_mask.png", b"")])
    with pytest.raises(InputError):
        convert_data(bad, tmp_path / "d")
    sources.text(tmp_path / "no.zip", "no archive")
    with pytest.raises(InputError, match="no zip archive"):
        convert_data(tmp_path / "no.zip", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_an_archive_cannot_name_images_outside(tmp_path):
    outside = sources.image(tmp_path / "outside/images/secret.jpg")
    sources.text(tmp_path / "outside/labels/secret.txt", "0 0 0 1 0 1 1\n")
    root = sources.yolo(tmp_path / "y", splits=("train",), number=1)
    entries = [(path.relative_to(root).as_posix(), path.read_bytes()) for path in root.rglob("*.*")]
    entries = [(name, content) for name, content in entries if name != "data.yaml"]
    entries.append(("data.yaml", f"train: {outside.parent}\nnames: [a, b]\n"))
    with pytest.raises(InputError, match="outside of the archive"):
        convert_data(archive(tmp_path / "bad.zip", entries), tmp_path / "d")


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"shapes": [{"label": "a", "points": [[1e308, 1e308], [-1e308, 0], [0, 1]]}], "imagePath": "a.jpg"}',
        '{"shapes": [{"label": "a", "points": "xy"}], "imagePath": "a.jpg"}',
        '{"shapes": [], "imagePath": "../../../etc/passwd", "imageData": 3}',
        '{"shapes": [{"label": "a", "points": [[0, 0], [1, 1], [0, 1]]}], "imagePath": "a.jpg", "imageHeight": 1000000,'
        ' "imageWidth": 1000000}',
        '{"shapes": [{"label": "a", "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "AAAA"}], '
        '"imagePath": "a.jpg"}',
    ],
)
def test_hostile_annotations_are_input_errors(tmp_path, content):
    sources.image(tmp_path / "l/a.jpg")
    sources.text(tmp_path / "l/a.json", content)
    with pytest.raises(InputError):
        convert_data(tmp_path / "l", tmp_path / "d", format="labelme")
    assert not (tmp_path / "d").exists()


def test_the_command(tmp_path):
    root = sources.yolo(tmp_path / "y")
    found = CliRunner().invoke(app, ["data", "convert", str(root), "--output", str(tmp_path / "d"), "--json"])
    assert found.exit_code == 0, found.output
    made = json.loads(found.stdout.splitlines()[-1])
    assert made["format"] == "yolo"
    assert made["data"] == str(tmp_path / "d")
    again = CliRunner().invoke(app, ["data", "convert", str(root), "--output", str(tmp_path / "e")])
    assert again.exit_code == 0
    assert "YOLO" in again.stdout
    assert "convlora train" in again.stdout


def test_python_speaks_of_arguments(tmp_path):
    root = sources.pairs(tmp_path / "p")
    (root / "0_mask.png").unlink()
    with pytest.raises(InputError, match="suffix") as caught:
        convlora.convert_data(root, tmp_path / "d", suffix="_nothing")
    assert "--suffix" not in str(caught.value)


def test_archives_are_not_read_by_train(tmp_path):
    bad = archive(tmp_path / "a.zip", [("a.jpg", b"x")])
    with pytest.raises(InputError, match="convlora data convert"):
        open_data(bad)
