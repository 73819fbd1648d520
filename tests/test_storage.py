import json
import math

import pytest

from convlora.errors import InputError
from convlora.storage import make_folder, recover_folder, replacing_file, replacing_folder, write_json, write_text


class Stop(Exception):
    pass


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_while_writing(path):
    with replacing_file(path) as temporary:
        temporary.write_text("half of the ne")
        raise Stop


def fail_while_filling(path):
    with replacing_folder(path) as temporary:
        (temporary / "b").write_text("new")
        raise Stop


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with pytest.raises(Stop):
        fail_while_writing(path)
    assert path.read_text() == "old"
    assert listing(path.parent) == ["file.txt"]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    with replacing_folder(path) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(Stop):
        fail_while_filling(path)
    assert listing(path) == ["a"]
    with replacing_folder(path) as temporary:
        (temporary / "b").write_text("new")
    assert listing(path) == ["b"]
    assert listing(tmp_path) == ["folder"]


def test_a_folder_lost_between_two_renames_comes_back(tmp_path):
    path = tmp_path / "adapter"
    path.mkdir()
    (path / "weights").write_text("precious")
    path.rename(tmp_path / ".adapter.old")  # where a killed process may have stopped
    recover_folder(path)
    assert (path / "weights").read_text() == "precious"
    recover_folder(path)
    assert listing(tmp_path) == ["adapter"]


def test_files_are_readable_by_others_as_usual(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    write_text(tmp_path / "written", "x")
    assert (tmp_path / "written").stat().st_mode == plain.stat().st_mode


def test_json_has_no_infinities(tmp_path):
    write_json(tmp_path / "x.json", {"a": [math.nan, 1.5], "b": {"c": math.inf}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.5], "b": {"c": None}}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="--output"):
        make_folder(tmp_path / "file" / "folder")
