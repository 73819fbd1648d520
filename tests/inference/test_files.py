import re

import pytest
from PIL import Image

from convlora.errors import InputError
from convlora.inference.files import collect_images, plan


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


@pytest.mark.parametrize(("what", "words"), [("missing.png", "no file or folder"), ("*.bmp", "no image matches")])
def test_nothing_found(folder, what, words):
    with pytest.raises(InputError, match=words):
        collect_images([str(folder / what)])


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
