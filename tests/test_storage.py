import errno
import json
import math
import os
from pathlib import Path

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


@pytest.fixture
def synced(monkeypatch):
    """What was sent to the disk, in order: the names it had then, and of files the content."""
    seen, sync = [], os.fsync

    def record(handle):
        path = Path(f"/proc/self/fd/{handle}").readlink()
        seen.append((path, path.read_text() if path.is_file() else None))
        sync(handle)

    monkeypatch.setattr(os, "fsync", record)
    return seen


on_linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for the names of open files")


@on_linux
def test_a_file_is_on_the_disk_before_it_is_renamed(tmp_path, synced):
    write_text(tmp_path / "file.txt", "content")
    (file, content), (folder, _) = synced
    assert ".unfinished-" in file.name
    assert content == "content"
    assert folder == tmp_path


@on_linux
def test_a_folder_is_on_the_disk_before_it_is_renamed(tmp_path, synced):
    with replacing_folder(tmp_path / "folder") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text("content")
    before = synced[:-1]
    assert {path.name for path, _ in before} == {folder.name, "deep", "a"}
    assert all(folder in (path, *path.parents) for path, _ in before), "under their temporary names"
    assert ("a", "content") in [(path.name, content) for path, content in before]
    assert synced[-1] == (tmp_path, None)


def test_a_disk_that_turns_out_full_leaves_the_old_file(tmp_path, monkeypatch):
    """Some file systems notice only when the content has to leave the memory."""

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "file.txt", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "old"
    assert listing(tmp_path) == ["file.txt"]
