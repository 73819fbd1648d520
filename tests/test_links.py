"""Nothing in a run or output folder leads out of it."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from convlora.errors import InputError
from convlora.links import below, check_own, is_link, is_plain_file, open_own
from convlora.storage import swap_folder


@pytest.fixture
def places(tmp_path):
    """A folder of ours, and one outside with a file that must stay as it is."""
    (tmp_path / "run" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "dear.txt").write_text("dear\n")
    yield tmp_path / "run", tmp_path / "outside"
    assert (tmp_path / "outside" / "dear.txt").read_text() == "dear\n"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["dear.txt"]


@pytest.mark.parametrize("place", ["link", "deep/link", "deep/deeper/link"])
@pytest.mark.parametrize("target", ["", "dear.txt", "gone"])
def test_links_are_found_at_any_depth(places, place, target):
    run, outside = places
    check_own(run, lambda name: True)
    (run / place).symlink_to(outside / target)
    with pytest.raises(InputError, match=f"{place} is a link"):
        check_own(run, lambda name: True)
    check_own(run, lambda name: name != place.partition("/")[0])  # somebody else's
    assert outside / "dear.txt" not in below(run)
    assert run / place / "dear.txt" not in below(run)
    assert list(below(run / place)) == []


def test_the_folder_itself_may_be_a_link(places, tmp_path):
    run, _ = places
    (tmp_path / "disk").symlink_to(run)
    check_own(tmp_path / "disk", lambda name: True)


def test_pipes_are_not_waited_for(places):
    run, _ = places
    os.mkfifo(run / "deep" / "log.jsonl")
    with pytest.raises(InputError, match=r"log\.jsonl is no ordinary file"):
        check_own(run, lambda name: True)
    for mode in ("r", "a", "w", "a+b"):
        with pytest.raises(InputError, match=r"log\.jsonl is no ordinary file"):
            open_own(run / "deep" / "log.jsonl", mode)
    assert not is_plain_file(run / "deep" / "log.jsonl")


@pytest.mark.parametrize("mode", ["r", "a", "w", "wb", "a+b"])
def test_no_link_is_opened(places, mode):
    run, outside = places
    (run / "a").symlink_to(outside / "dear.txt")
    (run / "b").symlink_to(outside / "gone")
    for name in "ab":
        with pytest.raises(InputError, match=f"{name} is a link"):
            open_own(run / name, mode)


@pytest.mark.parametrize("mode", ["a", "w", "wb", "a+b"])
def test_a_second_name_of_a_file_outside_is_not_written_to(places, mode):
    run, outside = places
    os.link(outside / "dear.txt", run / "log.jsonl")
    with pytest.raises(InputError, match="its file has another name"):
        open_own(run / "log.jsonl", mode)
    with open_own(run / "log.jsonl", "r") as file:
        assert file.read() == "dear\n"


def test_ordinary_files_are_opened_as_usual(tmp_path):
    for mode, expected in (("a", "é"), ("a", "éé"), ("w", "é")):
        with open_own(tmp_path / "x", mode) as file:
            file.write("é")
        assert (tmp_path / "x").read_text(encoding="utf-8") == expected
    with pytest.raises(FileNotFoundError):
        open_own(tmp_path / "y", "r")


def test_no_folder_is_swapped_for_a_link(places):
    run, outside = places
    (run / ".adapter-1").symlink_to(outside)
    with pytest.raises(InputError, match="is a link"):
        swap_folder(run / ".adapter-1", run / "adapter")
    (run / "adapter").symlink_to(outside)
    with pytest.raises(InputError, match="is a link"):
        swap_folder(run / "deep", run / "adapter")


@pytest.mark.parametrize("mode", ["r", "a", "w", "a+b"])
def test_no_link_is_opened_where_the_system_cannot_refuse_it(places, monkeypatch, mode):
    """As on Windows."""
    run, outside = places
    monkeypatch.delattr(os, "O_NOFOLLOW")
    (run / "a").symlink_to(outside / "dear.txt")
    (run / "b").symlink_to(outside / "gone")
    for name in "ab":
        with pytest.raises(InputError, match=f"{name} is a link"):
            open_own(run / name, mode)


def test_junctions_are_links(places, monkeypatch):
    """Python tells of them by a function of its own only since 3.12."""
    run, _ = places
    tag = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", 0xA0000003)
    lstat = Path.lstat

    def as_on_windows(self):
        if self.name != "deep":
            return lstat(self)
        return SimpleNamespace(st_mode=lstat(self).st_mode, st_reparse_tag=tag)

    monkeypatch.setattr(Path, "lstat", as_on_windows)
    assert is_link(run / "deep")
    assert not is_link(run / "deep" / "deeper")
    assert list(below(run)) == [run / "deep"]
