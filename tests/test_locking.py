"""Who may be in a folder at the same time."""

import os
import threading

import pytest

from convlora import locking
from convlora.errors import InputError
from convlora.locking import among_others, only_one


def test_a_lock_is_waited_for_if_asked(tmp_path):
    inside = threading.Event()

    def second():
        with only_one(tmp_path, ".own", wait=True):
            inside.set()

    with only_one(tmp_path, ".own"):
        with pytest.raises(InputError, match=f"Process {os.getpid()} is writing"), only_one(tmp_path, ".own"):
            pass
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not inside.wait(0.2)
        with only_one(tmp_path, ".other"):
            pass
    waiting.join(30)
    assert inside.is_set()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_somebody_else_has_made_anew_is_not_held(tmp_path, monkeypatch):
    """Its owner takes it away and lets go, and a third process makes one before the second has looked."""
    lock, calls = locking._flock, []

    def too_late(handle, kind, wait):
        lock(handle, kind, wait)
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
            (tmp_path / ".lock").touch()

    monkeypatch.setattr(locking, "_flock", too_late)
    with only_one(tmp_path):
        assert os.path.samestat(os.fstat(calls[-1]), (tmp_path / ".lock").stat())
    assert len(calls) == 2


def test_several_are_there_and_the_last_one_clears_up(tmp_path):
    folder = tmp_path / "out"
    with among_others(folder, ".here") as first:
        with first.alone() as is_alone:
            assert is_alone
        with among_others(folder, ".here") as second:
            for one in (first, second, first):
                with one.alone() as is_alone:
                    assert not is_alone
        assert (folder / ".here").exists()
        with first.alone() as is_alone:
            assert is_alone
    assert not folder.exists(), "nothing came of it"
