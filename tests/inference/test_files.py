import json
import os
import re
import unicodedata

import pytest
from PIL import Image

from convlora.errors import InputError
from convlora.inference.files.passed_over import passed_over
from convlora.inference.files.plan import check_output, collect_images, plan


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "sub/c.png", "sub/a.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("x")
        else:
            Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_files_folders_and_patterns(folder):
    assert names(collect_images([str(folder)])) == ["a.jpg", "b.png"]
    assert names(collect_images([str(folder / "b.png"), str(folder)])) == ["b.png", "a.jpg"]
    assert names(collect_images([str(folder / "*.png")])) == ["b.png"]
    assert names(collect_images([str(folder / "**" / "c.*")])) == ["c.png"]


def test_results_do_not_go_among_the_images_of_a_folder(tmp_path, monkeypatch):
    """Or the next call would take masks for images."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    for given, output in (
        ("photos", "photos/"),
        (str(tmp_path / "photos"), "photos"),
        ("photos", "link"),
        ("s3://a/b/", "s3://a/b"),
    ):
        with pytest.raises(InputError, match="--output"):
            check_output(["other.png", given], output)
    check_output(["photos/a.jpg", "other"], "photos")
    check_output(["photos"], "photos/masks")


@pytest.mark.parametrize(("what", "words"), [("missing.png", "no file or folder"), ("*.bmp", "no image matches")])
def test_nothing_found(folder, what, words):
    with pytest.raises(InputError, match=words):
        collect_images([str(folder / what)])


def test_brackets_in_names_are_told_from_patterns(tmp_path):
    (tmp_path / "data[1]").mkdir()
    pattern = str(tmp_path / "data[1]" / "*.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "data[1]" / "a.png")
    with pytest.raises(InputError, match="if they are part of a name, write") as caught:
        collect_images([pattern])
    (written,) = re.findall(r"write '(.*)'\.", str(caught.value))
    assert names(collect_images([written])) == ["a.png"]
    (tmp_path / "data[1]" / "a.png").unlink()
    with pytest.raises(InputError, match="holds no images") as caught:
        collect_images([str(tmp_path / "data[1]")])
    (written,) = re.findall(r"such as '(.*)'\.", str(caught.value))
    Image.new("RGB", (4, 4)).save(tmp_path / "data[1]" / "b.jpg")
    assert names(collect_images([written])) == ["b.jpg"]


def test_what_is_passed_over_is_told(folder):
    def told(*patterns, output=folder / "out"):
        patterns = [str(pattern) for pattern in patterns]
        return passed_over(patterns, collect_images(patterns), output)

    note = told(folder)
    assert note.startswith(f"Passed over: 1 subfolder ({folder / 'sub'}) and 1 file of other kinds than .bmp, ")
    assert f".webp ({folder / 'notes.txt'}). Name subfolders too, or a pattern such as '{folder}/sub/*" in note
    assert (
        told(folder, folder, folder / "sub")
        == told(folder, folder / "**" / "*.png")
        == told(folder).replace(f"1 subfolder ({folder / 'sub'}) and ", "").partition(" Name subfolders")[0]
    )
    (folder / "notes.txt").unlink()
    assert told(folder, folder / "sub") is None
    assert told(folder / "*.png") is None, "a pattern says what is meant"
    assert told(folder, output=folder / "sub") is None
    (folder / "sub" / "shares.json").write_text("{}")
    for name in ("shares.json", ".hidden", "a.jgw", "a.jpgw", "b.png.aux.xml"):
        (folder / name).write_text("x")
    assert told(folder) is None, "results, hidden files and companions of images"
    (folder / "c.gif").write_text("x")
    (folder / "d.heic").write_text("x")
    assert "Passed over: 2 files of other kinds" in told(folder)
    assert f"(such as {folder / 'c.gif'})" in told(folder)


def test_the_command_says_what_it_passes_over(convlora, trained_run, folder, tmp_path):
    arguments = ["predict", trained_run, folder, "--output", tmp_path / "p", "--device", "cpu", "--json"]
    code, out, err = convlora(*arguments)
    assert (code, out.count("\n")) == (0, 1)
    assert "Note: Passed over: 1 subfolder" in err
    assert str(tmp_path / "p") not in err, "results of its own"
    assert convlora(*arguments)[2] == err


def test_a_folder_without_images(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        collect_images([str(tmp_path)])


def test_names_are_kept(folder, tmp_path):
    jobs = plan(collect_images([str(folder)]), tmp_path / "out", with_overlay=True)
    assert [job.mask.name for job in jobs] == ["a.png", "b.png"]
    assert [job.overlay.name for job in jobs] == ["a_overlay.png", "b_overlay.png"]
    assert plan([folder / "b.png"], tmp_path / "out", with_overlay=False)[0].overlay is None


def test_clashing_names_are_refused_before_anything_is_written(folder, tmp_path):
    with pytest.raises(InputError, match=re.escape(str(folder / "sub" / "a.png"))):
        plan([folder / "a.jpg", folder / "sub" / "a.png"], tmp_path / "out", with_overlay=False)
    with pytest.raises(InputError, match="would replace it"):
        plan([folder / "b.png"], folder, with_overlay=False)


ONE_IS_THE_OTHER = [("A", "a"), ("stra\u00dfe", "STRASSE"), ("caf\u00e9", "cafe\u0301")]


@pytest.mark.parametrize(("one", "other"), ONE_IS_THE_OTHER)
def test_names_that_are_one_on_some_disks(tmp_path, monkeypatch, one, other):
    for folder, name in (("x", one), ("y", other)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / folder / f"{name}.PNG")
    images = [tmp_path / "x" / f"{one}.PNG", tmp_path / "y" / f"{other}.PNG"]
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / one).touch()
    if not (tmp_path / "probe" / other).exists():
        assert len(plan(images, tmp_path / "out", with_overlay=True)) == 2

    def exists(self):  # as on a disk that ignores case, and takes letters and their accents for one
        names = [unicodedata.normalize("NFKC", entry.name).casefold() for entry in self.parent.iterdir()]
        return unicodedata.normalize("NFKC", self.name).casefold() in names

    monkeypatch.setattr("pathlib.Path.exists", exists)
    words = f"{re.escape(str(images[0]))} and {re.escape(str(images[1]))} would both be written to {one} in .*out"
    with pytest.raises(InputError, match=words):
        plan(images, tmp_path / "out", with_overlay=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["probe", "x", "y"], "nothing is left of the trial"


def test_a_result_that_is_no_ordinary_file_is_not_ours(folder, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "a.png").symlink_to(folder / "b.png")
    os.mkfifo(output / "b.png")
    for name in ("a.jpg", "b.png"):
        with pytest.raises(InputError, match="exists and was not made by convlora"):
            plan([folder / name], output, with_overlay=False)


def test_a_name_that_is_too_long_does_not_stop_the_others(convlora, trained_run, tmp_path):
    """Of a result, or of the file that it is written to at first."""
    for stem in ("a", "\u56fe" * 80, "\u56fe" * 83):  # 240 and 249 bytes; with _overlay.png 261
        Image.new("RGB", (20, 20)).save(tmp_path / f"{stem}.png")
    output = tmp_path / "out"
    arguments = ["predict", trained_run, tmp_path, "--output", output, "--device", "cpu", "--overlay", "--json"]
    for extra in ([], ["--tile"]):
        code, out, err = convlora(*arguments, *extra)
        assert code == 1
        assert "would have too long a name" in " ".join(err.split())
        assert len(json.loads(out)["images"]) == 2
        written = {path.name for path in output.iterdir() if not path.name.startswith(".")}
        stems = {"a", "\u56fe" * 80}
        assert written == {"shares.json", *(f"{stem}{end}" for stem in stems for end in (".png", "_overlay.png"))}
        assert json.loads((output / "shares.json").read_text())["images"].keys() == stems
    code, out, _ = convlora(*[argument for argument in arguments if argument != "--overlay"])
    assert code == 0, "without overlays all names fit"
