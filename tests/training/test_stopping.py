"""Signals, full disks and two processes that want the same folder."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from convlora.errors import InputError
from convlora.locking import LOCK, only_one
from convlora.reporting import Silent
from convlora.storage import sweep
from convlora.training.folder import last_checkpoint
from convlora.training.run import Interrupted, train
from convlora.training.trainer import SegmentationTrainer
from tests.training.test_run import assert_equal_runs


def program(*arguments, **options):
    command = [sys.executable, "-m", "convlora.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def wait_for_steps(folder, steps):
    for _ in range(1200):
        path = folder / "log.jsonl"
        if path.is_file() and len(path.read_text().splitlines()) >= steps:
            return
        time.sleep(0.05)
    raise AssertionError("no step was made")


def test_terminated_from_outside_and_gone_on_with(make_config, tmp_path):
    """What a queue of a cluster does: SIGTERM, then after a while SIGKILL."""
    config = make_config(epochs=20)  # so long that the signal comes before the end
    config.save(tmp_path / "config.yaml")
    process = program("train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run")
    wait_for_steps(tmp_path / "run", 1)
    with pytest.raises(InputError, match=f"Process {process.pid} is writing to {tmp_path}/run. Wait until it has"):
        train(config, tmp_path / "run", resume=True)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Finishing this step or validation, then saving." in told
    assert "Go on with the same command and --resume." in " ".join(told.split())
    assert "Traceback" not in told
    assert not (tmp_path / "run" / LOCK).exists()
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "undisturbed")
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "run")


def test_terminated_with_its_readers_as_launchers_do(make_config, tmp_path):
    """The signal goes to every process of the group, and comes twice: from a queue, and passed on by a launcher."""
    config = make_config(epochs=20)
    config.data.workers = 2
    config.save(tmp_path / "config.yaml")
    arguments = ("train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run")
    process = program(*arguments, start_new_session=True)
    wait_for_steps(tmp_path / "run", 1)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.01)
    _, told = process.communicate(timeout=60)
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


@pytest.mark.parametrize("share", [0.3, 0.9, 1.1])
def test_a_full_disk(make_config, trained_run, tmp_path, share):
    """No file may grow beyond a limit, which is what a full disk or a used-up quota look like to a program."""
    largest = (last_checkpoint(trained_run) / "optimizer_state.safetensors").stat().st_size
    adapter = (trained_run / "adapter" / "adapter_model.safetensors").stat().st_size
    assert adapter < 0.9 * largest, "or the cases are not what they say"
    config = make_config()
    config.save(tmp_path / "config.yaml")

    def little_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = int(share * largest)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = program(
        "train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run", preexec_fn=little_room
    )
    _, told = process.communicate(timeout=120)
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


def test_a_full_disk_is_no_reason_to_wait_for_a_lock(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from convlora.locking import only_one\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "with only_one(Path(sys.argv[1])): pass"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "run"], check=True, timeout=60)


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


def test_terminated_while_no_image_comes(make_config, tmp_path):
    """A disk that does not answer: the step cannot be finished, and the signal ends the run all the same."""
    config = make_config(epochs=20)
    config.data.workers = 1
    config.save(tmp_path / "config.yaml")
    code = (
        "import sys, time\n"
        "from convlora.cli.main import run\n"
        "from convlora.data.dataset import SegmentationDataset\n"
        "from convlora.training import callbacks\n"
        "callbacks.PATIENCE = 1\n"
        "read = SegmentationDataset.__getitem__\n"
        "def slow(self, key):\n"
        "    if key >= len(self):  # in the second epoch\n"
        "        open(sys.argv[1], 'w').close()\n"
        "        time.sleep(1000)\n"
        "    return read(self, key)\n"
        "SegmentationDataset.__getitem__ = slow\n"
        "run(sys.argv[2:])\n"
    )
    arguments = ["train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run"]
    command = [sys.executable, "-c", code, tmp_path / "waits", *arguments]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        if (tmp_path / "waits").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "because no image came for 1 seconds. Look at the disk with the data" in " ".join(told.split())
