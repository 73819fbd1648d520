import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from convlora.data.checking import facts
from convlora.data.checking.check import check_data
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from tests.data.images_on_disk import noise, save, write_set

BOTH = pytest.mark.parametrize("full", [False, True])


def check(root, full=True):
    return check_data(open_data(root), full=full)


def name_classes(root, *names, **fields):
    (root / "classes.json").write_text(json.dumps({"classes": names, **fields}))


def the_problem(report, kind):
    found = [problem for problem in report.problems if problem.kind == kind]
    assert len(found) == 1, report.problems
    return found[0]


@BOTH
def test_clean_data(tmp_path, full):
    write_set(tmp_path, {"train": 3, "val": 1, "test": 2}, values=(0, 255))
    report = check(tmp_path, full)
    assert report.problems == []
    assert report.counts == {"train": 3, "val": 1, "test": 2}
    assert report.classes.label_map == ((0, 0), (255, 1))
    assert (report.image_sizes.smallest, report.image_sizes.largest, report.image_sizes.different) == (
        (12, 16),
        (12, 16),
        1,
    )
    assert report.class_pixels == ({"train": [288, 288], "val": [96, 96], "test": [192, 192]} if full else {})
    report.raise_errors()
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_pixels_are_counted_per_class_and_add_up(tmp_path):
    write_set(tmp_path, {"train": 2}, values=(0, 1, 2, 255))
    name_classes(tmp_path, "a", "b", "c")
    report = check(tmp_path)
    assert report.class_pixels == {"train": [96, 96, 96]}
    assert report.ignored_pixels == {"train": 96}


@BOTH
def test_pairing_problems_come_first(tmp_path, full):
    write_set(tmp_path, {"train": 3})
    (tmp_path / "train" / "masks" / "1.png").unlink()
    report = check(tmp_path, full)
    assert report.problems[0].kind == "missing-pair"
    assert "images/1.png" in report.problems[0].message
    assert report.to_dict()["ok"] is False


@BOTH
def test_size_mismatch(tmp_path, full):
    write_set(tmp_path, {"train": 2})
    save(tmp_path / "train" / "masks" / "1.png", np.zeros((16, 12), np.uint8))
    problem = the_problem(check(tmp_path, full), "size-mismatch")
    assert problem.path.endswith("masks/1.png")
    for part in ("masks/1.png", "images/1.png", "12x16", "16x12"):
        assert part in problem.message


def test_large_masks_of_another_size_are_not_decoded(tmp_path, monkeypatch):
    write_set(tmp_path, {"train": 2})
    save(tmp_path / "train" / "masks" / "1.png", np.zeros((40, 30), np.uint8))
    decoded = []
    monkeypatch.setattr(facts, "_LARGE", 1000)
    monkeypatch.setattr(facts, "read_mask", lambda mask, read=facts.read_mask: decoded.append(mask.name) or read(mask))
    problem = the_problem(check(tmp_path, True), "size-mismatch")
    assert "30x40" in problem.message
    assert decoded == ["0.png"]


@BOTH
def test_rotated_photographs_are_no_mismatch(tmp_path, full):
    write_set(tmp_path, {"train": 2})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(7, 16, 12)).save(tmp_path / "train" / "images" / "1.png", exif=exif)
    assert check(tmp_path, full).problems == []


def test_orientation_behind_the_pixels_of_a_png_is_no_mismatch(tmp_path):
    write_set(tmp_path, {"train": 1})
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "train" / "images" / "0.png"
    Image.fromarray(noise(7, 16, 12)).save(path, exif=exif)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
    path.write_bytes(data[:start] + data[stop:-12] + data[start:stop] + data[-12:])  # now just before IEND
    assert check(tmp_path, full=False).problems == []
    assert check(tmp_path, full=True).problems == []


@BOTH
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_unreadable_files(tmp_path, full, kind):
    write_set(tmp_path, {"train": 3})
    (tmp_path / "train" / kind / "1.png").write_text("text")
    problem = the_problem(check(tmp_path, full), "unreadable")
    assert problem.path.endswith(f"{kind}/1.png")
    assert f"{kind}/1.png" in problem.message


def test_only_the_full_check_decodes(tmp_path):
    write_set(tmp_path, {"train": 3})
    path = tmp_path / "train" / "images" / "2.png"
    path.write_bytes(path.read_bytes()[:-60])
    assert check(tmp_path, full=False).problems == []
    assert the_problem(check(tmp_path), "unreadable").path == str(path)


@BOTH
def test_values_outside_the_named_classes(tmp_path, full):
    write_set(tmp_path, {"train": 3})
    name_classes(tmp_path, "background", "crack")
    save(tmp_path / "train" / "masks" / "0.png", np.full((12, 16), 7, np.uint8))
    save(tmp_path / "train" / "masks" / "2.png", np.full((12, 16), 9, np.uint8))
    report = check(tmp_path, full)
    found = [(problem.kind, problem.path[-11:]) for problem in report.problems]
    assert found == [("values", "masks/0.png"), ("values", "masks/2.png")]
    assert "the value 7" in report.problems[0].message
    assert report.classes is None


def test_the_odd_mask_among_binary_ones_is_named(tmp_path):
    write_set(tmp_path, {"train": 4}, values=(0, 255))
    save(tmp_path / "train" / "masks" / "2.png", np.linspace(0, 255, 192).astype(np.uint8).reshape(12, 16))
    report = check(tmp_path)
    assert [problem.path for problem in report.problems] == [
        str(tmp_path / "train" / "masks" / "2.png"),
        str(tmp_path),
    ]
    assert "JPEG" in report.problems[0].message


@BOTH
def test_more_values_without_names_ask_for_classes_json(tmp_path, full):
    write_set(tmp_path, {"train": 2}, values=(0, 1, 2))
    problem = the_problem(check(tmp_path, full), "values")
    assert problem.path == str(tmp_path)
    assert "classes.json" in problem.message


@BOTH
def test_broken_classes_json_is_a_problem_among_others(tmp_path, full):
    write_set(tmp_path, {"train": 2})
    (tmp_path / "classes.json").write_text("{")
    (tmp_path / "train" / "images" / "1.png").write_text("text")
    report = check(tmp_path, full)
    assert {problem.kind for problem in report.problems} == {"classes-json", "unreadable"}
    assert report.classes is None


@BOTH
def test_empty_split(tmp_path, full):
    write_set(tmp_path, {"train": 2})
    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "val" / "masks").mkdir()
    assert "'val'" in the_problem(check(tmp_path, full), "empty-split").message


def test_same_image_in_two_splits_is_an_error_and_within_one_a_warning(tmp_path):
    write_set(tmp_path, {"train": 2, "test": 2})
    for file in ("test/images/1.png", "train/images/1.png"):
        (tmp_path / file).write_bytes((tmp_path / "train/images/0.png").read_bytes())
    problems = [problem for problem in check(tmp_path).problems if problem.kind == "duplicate-image"]
    assert [(problem.path, problem.severity) for problem in problems] == [
        (str(tmp_path / "train/images/1.png"), "warning"),
        (str(tmp_path / "test/images/1.png"), "error"),
    ]
    assert "train/images/0.png" in problems[1].message


def test_dark_16_bit_images(tmp_path):
    write_set(tmp_path, {"train": 3})
    for index in range(3):
        dark = np.random.default_rng(index).integers(0, 4096, (12, 16)).astype(np.uint16)
        save(tmp_path / "train" / "images" / f"{index}.png", dark)
    problem = the_problem(check(tmp_path), "dark-16-bit")
    assert problem.severity == "warning"
    assert "3 of 3" in problem.message
    assert "--set data.intensity=image" in problem.message
    for index in range(3):
        save(tmp_path / "train" / "images" / f"{index}.png", np.full((12, 16), 30000 + index, np.uint16))
    assert check(tmp_path).problems == []


def test_values_of_unknown_range_are_a_warning(tmp_path):
    write_set(tmp_path, {"train": 1})
    (tmp_path / "train" / "images" / "0.png").unlink()
    path = save(tmp_path / "train" / "images" / "0.tif", np.linspace(-1, 1, 192, dtype=np.float32).reshape(12, 16))
    problem = the_problem(check(tmp_path), "unknown-range")
    assert (problem.path, problem.severity) == (str(path), "warning")


def test_unknown_ranges_are_told_once(tmp_path):
    write_set(tmp_path, {"train": 3})
    for index in range(3):
        (tmp_path / "train" / "images" / f"{index}.png").unlink()
        values = np.linspace(-1, 1 + index, 192, dtype=np.float32).reshape(12, 16)
        save(tmp_path / "train" / "images" / f"{index}.tif", values)
    problem = the_problem(check(tmp_path), "unknown-range")
    assert problem.path.endswith("0.tif")
    assert problem.message.endswith("2 more files are like it.")


def test_class_absent_from_a_split(tmp_path):
    write_set(tmp_path, {"train": 2, "test": 1}, values=(0, 1, 2))
    save(tmp_path / "test" / "masks" / "0.png", np.full((12, 16), 1, np.uint8))
    name_classes(tmp_path, "sky", "road", "car")
    problem = the_problem(check(tmp_path), "absent-class")
    assert problem.severity == "warning"
    assert "'test'" in problem.message
    assert "sky, car" in problem.message


def test_0_1_and_0_255_masks_mixed(tmp_path):
    write_set(tmp_path, {"train": 3})
    save(tmp_path / "train" / "masks" / "1.png", np.full((12, 16), 255, np.uint8))
    problem = the_problem(check(tmp_path), "mixed-masks")
    assert "masks/1.png" in problem.message
    assert problem.severity == "warning"  # such a mask may be ignored as a whole
    save(tmp_path / "train" / "masks" / "1.png", np.tile(np.array([0, 255], np.uint8), (12, 8)))
    assert the_problem(check(tmp_path), "mixed-masks").severity == "error"
    name_classes(tmp_path, "background", "crack", ignore_index=255)
    assert the_problem(check(tmp_path), "mixed-masks").severity == "warning"
    (tmp_path / "classes.json").unlink()
    three = np.tile(np.array([0, 1, 255, 255], np.uint8), (12, 4))
    save(tmp_path / "train" / "masks" / "1.png", three)
    assert check(tmp_path).problems == []


@pytest.mark.parametrize("stated", [{"ignore_index": 255}, {}])
def test_rare_foreground_beyond_the_sampled_masks_is_found(tmp_path, stated):
    write_set(tmp_path, {"train": 99}, values=(0,), height=2, width=2)
    only_ignored = np.array([[0, 255], [0, 0]], np.uint8)
    for index in (0, 98):
        save(tmp_path / "train" / "masks" / f"{index}.png", only_ignored)
    files = sorted((tmp_path / "train" / "masks").iterdir())
    sampled = set(np.linspace(0, 98, 48).round().astype(int).tolist())
    unseen = next(index for index in range(99) if index not in sampled)
    save(files[0], only_ignored)
    save(files[unseen], np.array([[0, 1], [255, 0]], np.uint8))
    name_classes(tmp_path, "background", "crack", ignore_index=255)
    assert check(tmp_path, full=False).classes.label_map is None
    # The same masks without their single 1 are 0/255 masks.
    save(files[unseen], only_ignored)
    name_classes(tmp_path, "background", "crack", **stated)
    assert check(tmp_path, full=False).classes.label_map == ((0, 0), (255, 1))


def test_quick_check_reads_at_most_48_masks(tmp_path, monkeypatch):
    write_set(tmp_path, {"train": 60, "val": 5}, height=2, width=2)
    import convlora.data.checking.facts as module

    read = []
    original = module.read_mask
    monkeypatch.setattr(module, "read_mask", lambda path: (read.append(path), original(path))[1])
    assert check(tmp_path, full=False).problems == []
    assert len(set(read)) == len(read) == 48
    assert all("train" in path.parts for path in read)


def test_order_does_not_depend_on_threads(tmp_path):
    write_set(tmp_path, {"train": 20, "val": 5}, height=4, width=4)
    for split, index in [("train", 3), ("train", 7), ("train", 11), ("val", 0), ("val", 4)]:
        (tmp_path / split / "images" / f"{index}.png").write_text("text")
    runs = [check(tmp_path).to_dict() for _ in range(5)]
    assert all(run == runs[0] for run in runs)
    paths = [problem["path"] for problem in runs[0]["problems"]]
    assert paths == [str(tmp_path / "train/images" / name) for name in ("11.png", "3.png", "7.png")] + [
        str(tmp_path / "val/images" / name) for name in ("0.png", "4.png")
    ]


def test_progress_sees_every_sample(tmp_path):
    write_set(tmp_path, {"train": 3, "val": 1})
    seen = []

    def progress(items, text):
        seen.append((len(items), text))
        return items

    check_data(open_data(tmp_path), full=True, progress=progress)
    assert seen == [(4, "Reading images and masks")]


def test_raise_errors_spells_out_the_first(tmp_path):
    write_set(tmp_path, {"train": 6})
    for index in range(5):
        (tmp_path / "train" / "masks" / f"{index}.png").unlink()
    with pytest.raises(InputError, match=re.escape("(and 2 more; convlora data check lists all of them)")) as caught:
        check(tmp_path, full=False).raise_errors()
    assert "images/0.png" in str(caught.value)
    assert "images/3.png" not in str(caught.value)


def test_raise_errors_says_a_remedy_of_several_errors_once(tmp_path):
    write_set(tmp_path, {"train": 4})
    for index in range(2):
        save(tmp_path / "train" / "masks" / f"{index}.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(InputError) as caught:
        check(tmp_path, full=False).raise_errors()
    assert "masks/0.png is 4x3" in str(caught.value)
    assert "masks/1.png is 4x3" in str(caught.value)
    assert str(caught.value).count("Give both the same size.") == 1


def test_checking_needs_no_torch():
    code = "import sys, convlora.data.checking.check, convlora.data.sources.opening; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_undivided_data_of_background_alone(tmp_path):
    write_set(tmp_path, {"train": 3}, values=(0,))
    name_classes(tmp_path / "train", "background", "crack")
    assert the_problem(check(tmp_path / "train"), "absent-class").severity == "error"
    report = check_data(open_data(tmp_path / "train").only("test"), full=True)
    assert the_problem(report, "absent-class").severity == "warning", "to be scored, not to be learned from"
