"""Signals, full disks and two processes that want the same folder."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from convlora.errors import InputError
from convlora.locking import LOCK, only_one
from convlora.reporting import Silent
from convlora.storage import sweep
from convlora.training.folder import last_checkpoint
from convlora.training.run import Interrupted, train
from convlora.training.trainer import SegmentationTrainer
from tests.helpers.forked import Forked
from tests.helpers.forked import run as run_program
from tests.training.test_run import assert_equal_runs


def wait_for_steps(folder, steps):
    for _ in range(1200):
        path = folder / "log.jsonl"
        if path.is_file() and len(path.read_text().splitlines()) >= steps:
            return
        time.sleep(0.05)
    raise AssertionError("no step was made")


def slow_steps():
    """Leaves time to send a signal before the end, without many steps to compare afterwards."""
    loss = SegmentationTrainer.compute_loss

    def slow(self, *arguments, **options):
        time.sleep(0.5)
        return loss(self, *arguments, **options)

    SegmentationTrainer.compute_loss = slow


def test_terminated_from_outside_and_gone_on_with(make_config, tmp_path):
    """What a queue of a cluster does: SIGTERM, then after a while SIGKILL."""
    config = make_config(epochs=3)
    config.save(tmp_path / "config.yaml")
    command = ("train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run")
    process = Forked(*command, prepare=slow_steps)
    wait_for_steps(tmp_path / "run", 1)
    with pytest.raises(InputError, match=f"Process {process.pid} is writing to {tmp_path}/run. Wait until it has"):
        train(config, tmp_path / "run", resume=True)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 1
    assert "Finishing this step or validation, then saving." in told
    assert "Go on with the same command and --resume." in " ".join(told.split())
    assert "Traceback" not in told
    assert not (tmp_path / "run" / LOCK).exists()
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "undisturbed")
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "run")


@pytest.mark.processes
def test_terminated_with_its_readers_as_launchers_do(make_config, tmp_path):
    """The signal goes to every process of the group, and comes twice: from a queue, and passed on by a launcher."""
    config = make_config(epochs=3)
    config.data.workers = 2
    config.save(tmp_path / "config.yaml")
    command = ("train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run")
    process = Forked(*command, prepare=slow_steps, own_group=True)
    wait_for_steps(tmp_path / "run", 1)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.01)
    _, told = process.communicate()
    assert process.returncode == 1
    assert told.count("Finishing this step or validation, then saving.") == 1
    assert "a checkpoint was saved." in " ".join(told.split())
    assert last_checkpoint(tmp_path / "run") is not None


def test_terminated_while_the_last_checkpoint_is_written(make_config, trained_run, tmp_path, monkeypatch):
    """Who asks it to stop has no time to wait for the scores."""
    whole = SegmentationTrainer._write_random_state

    def save(self, folder):
        if self.state.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        whole(self, folder)

    monkeypatch.setattr(SegmentationTrainer, "_write_random_state", save)
    with pytest.raises(Interrupted, match="Interrupted after step 6; a checkpoint was saved"):
        train(make_config(), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()
    train(make_config(), tmp_path / "run", resume=True)
    assert_equal_runs(trained_run, tmp_path / "run")


@pytest.fixture
def heeds_interrupts():
    """As in a terminal; what a shell starts in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_a_second_interrupt_ends_it_at_once(make_config, trained_run, tmp_path):
    class Impatient(Silent):
        steps = 0

        def step(self, step, epoch, loss):
            self.steps = step
            if step == 4:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)

    reporter = Impatient()
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path / "run", reporter=reporter)
    assert reporter.steps == 4
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-3", "the one of the first epoch is still there"
    train(make_config(), tmp_path / "run", resume=True)
    assert_equal_runs(trained_run, tmp_path / "run")


def little_room(limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize(
    "share", [pytest.param(0.3, marks=pytest.mark.processes), 0.9, pytest.param(1.1, marks=pytest.mark.processes)]
)
def test_a_full_disk(make_config, trained_run, tmp_path, share):
    """No file may grow beyond a limit, which is what a full disk or a used-up quota look like to a program."""
    largest = (last_checkpoint(trained_run) / "optimizer_state.safetensors").stat().st_size
    adapter = (trained_run / "adapter" / "adapter_model.safetensors").stat().st_size
    assert adapter < 0.9 * largest, "or the cases are not what they say"
    config = make_config()
    config.save(tmp_path / "config.yaml")

    process = Forked(
        "train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run",
        prepare=partial(little_room, int(share * largest)),
    )  # fmt: skip
    _, told = process.communicate()
    assert "Traceback" not in told
    told = " ".join(told.split())
    if share > 1:
        assert process.returncode == 0
        return
    assert process.returncode == 1
    assert "ake room" in told
    assert not any(path.name.startswith(".") for path in (tmp_path / "run").iterdir())
    train(make_config(), tmp_path / "run", resume=True)
    assert_equal_runs(trained_run, tmp_path / "run")


def test_the_lock_is_let_go(tmp_path):
    with (
        only_one(tmp_path / "new"),
        pytest.raises(InputError, match=f"Process {os.getpid()} is writing"),
        only_one(tmp_path / "new"),
    ):
        pass
    assert not (tmp_path / "new").exists(), "nothing came of it"
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / LOCK).write_text("1\n")  # of a process that was killed
    with only_one(tmp_path / "old"):
        pass
    assert list((tmp_path / "old").iterdir()) == []


def take_a_lock_without_room(arguments):
    little_room(0)
    with only_one(Path(arguments[0])):
        pass


def test_a_full_disk_is_no_reason_to_wait_for_a_lock(tmp_path):
    run_program(tmp_path / "run", target=take_a_lock_without_room)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_processes_do_not_hold_the_lock(tmp_path):
    """As the processes that read images, which live a while longer than a parent that is killed."""
    parent = os.fork()
    if parent == 0:
        with only_one(tmp_path):
            if os.fork() == 0:
                (tmp_path / "pid").write_text(str(os.getpid()))
                time.sleep(60)
                os._exit(0)
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        with only_one(tmp_path):
            pass
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_what_killed_processes_left_is_swept(tmp_path):
    (tmp_path / ".adapter.unfinished-abc").mkdir()
    (tmp_path / ".adapter.unfinished-abc" / "half").write_text("x")
    (tmp_path / ".metrics.unfinished-x1.json").write_text("{")
    (tmp_path / ".hidden").write_text("mine")
    (tmp_path / "metrics.json").write_text(json.dumps({}))
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "metrics.json"]


@pytest.mark.parametrize("name", ["checkpoints", "adapter", "log.jsonl", "config.yaml"])
def test_links_in_the_folder_of_a_run_are_not_followed(make_config, trained_run, tmp_path, name):
    """A run that somebody sent would have files elsewhere overwritten or removed."""
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{tmp_path}/run/{name} is a link"):
        train(make_config(), tmp_path / "run", resume=True)


def test_a_lock_that_is_a_link_is_not_written_to(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(InputError, match=r"\.lock is a link"), only_one(tmp_path / "run"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "three years"


IMAGES_STOP_COMING = """
import sys, time
from convlora.cli.main import run
from convlora.data.dataset import SegmentationDataset
from convlora.training import callbacks

def slow(self, key, read=SegmentationDataset.__getitem__):
    if key >= len(self):  # in the second epoch
        open(sys.argv[1], "w").close()
        time.sleep(1000)
    return read(self, key)

callbacks.PATIENCE = 1
SegmentationDataset.__getitem__ = slow
run(sys.argv[2:])
"""  # a disk that does not answer; a file says when it is waited for


@pytest.mark.processes
def test_terminated_while_no_image_comes(make_config, tmp_path):
    """The step cannot be finished, and the signal ends the run all the same."""
    config = make_config(epochs=20)
    config.data.workers = 1
    config.save(tmp_path / "config.yaml")
    arguments = ["train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run"]
    command = [sys.executable, "-c", IMAGES_STOP_COMING, tmp_path / "waits", *arguments]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        if (tmp_path / "waits").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "no image came for 1 seconds" in " ".join(told.split())
