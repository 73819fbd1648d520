"""Who may be in a folder at the same time."""

import errno
import os
import threading
import time

import pytest
from filelock import _unix

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


def test_a_lock_that_another_process_has_made_anew_is_not_held(tmp_path, monkeypatch):
    """Its owner removes it and lets go, and a third process makes one before the second has taken it."""
    take, calls = _unix.lock_fd_nonblocking, []

    def too_late(handle):
        taken = take(handle)
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
            (tmp_path / ".lock").touch()
        return taken

    monkeypatch.setattr(_unix, "lock_fd_nonblocking", too_late)
    with only_one(tmp_path), pytest.raises(InputError, match="is writing"), only_one(tmp_path):
        pass
    assert len(calls) > 2


def test_a_disk_without_locks_has_none(tmp_path, monkeypatch):
    def no_locks(handle):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(_unix, "lock_fd_nonblocking", no_locks)
    with only_one(tmp_path), only_one(tmp_path):
        pass


def test_a_forked_process_does_not_hold_the_lock_of_its_parent(tmp_path):
    """Such as one that reads images, which may outlive a training process that is killed."""
    holder = os.fork()
    if holder == 0:
        _fork_and_die(tmp_path)
    os.waitpid(holder, 0)  # not `join` of a `Process`, which waits for the children of the process, too
    with only_one(tmp_path):
        assert not (tmp_path / "gone").exists(), "its child is still there"
    (tmp_path / "done").touch()


def _fork_and_die(folder):
    with only_one(folder):
        if os.fork() == 0:
            while not (folder / "done").exists():
                time.sleep(0.01)
            (folder / "gone").touch()
        os._exit(0)


def test_several_are_there_and_the_last_one_clears_up(tmp_path):
    folder = tmp_path / "out"
    with among_others(folder, ".here") as first:
        with first.alone() as is_alone:
            assert is_alone
        with among_others(folder, ".here") as second:
            for one in (first, second, first):
                with one.alone() as is_alone:
                    assert not is_alone
        assert len(list(folder.iterdir())) == 1
        with first.alone() as is_alone:
            assert is_alone
    assert not folder.exists(), "nothing came of it"


def test_the_presence_of_a_process_that_was_killed_does_not_count(tmp_path):
    with among_others(tmp_path, ".here") as first:
        (tmp_path / ".here-of-a-dead-one").touch()
        with first.alone() as is_alone:
            assert is_alone
    assert list(tmp_path.iterdir()) == []
