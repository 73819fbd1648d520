from pathlib import Path

import pytest

from convlora.errors import InputError
from convlora.serve.limits import Limits, Problem, Room
from convlora.serve.names import name_runs


def test_names_are_as_long_as_they_need_to_be():
    assert list(name_runs([Path("/a/one"), Path("/b/two")])) == ["one", "two"]
    folders = [Path("/a/lora/seed-0"), Path("/a/conv-lora/seed-0"), Path("/a/lora/seed-1")]
    assert name_runs(folders) == dict(zip(["lora/seed-0", "conv-lora/seed-0", "lora/seed-1"], folders, strict=True))
    assert list(name_runs([Path("/a/x"), Path("/x")])) == ["a/x", "x"]
    assert list(name_runs([Path("/a/\x1b[2J")])) == ["\\x1b[2J"]


def test_a_run_is_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="twice"):
        name_runs([Path("run"), tmp_path / "run"])


def test_room():
    room = Room(3, "full")
    room.take(2)
    with pytest.raises(Problem, match="full") as caught:
        room.take(2)
    assert caught.value.status == 503
    with room.place(), pytest.raises(Problem):
        room.check()
    assert room.taken == 2


@pytest.mark.parametrize("name", ["upload_bytes", "pixels", "waiting", "seconds"])
def test_limits_that_let_nothing_through_are_refused(name):
    with pytest.raises(InputError, match="must be above 0"):
        Limits(**{name: 0})
