"""A cluster of two processes: one is killed, and nothing is lost. What needs no cluster is tested without one."""

import importlib.util
import os
import shutil
import signal
import threading
import time

import psutil
import pytest

from convlora.api.predict import predict
from tests.inference.fleet.conftest import OPTIONS, content, files, names_of, put

pytestmark = pytest.mark.processes

COPIES = 16


@pytest.fixture(scope="module")
def cluster(request):
    """Two cores; made after the store, if there is one, whose address its processes are given."""
    ray = pytest.importorskip("ray", reason="needs Ray")
    if all(importlib.util.find_spec(name) for name in ("moto", "boto3", "flask")):
        request.getfixturevalue("store")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def many(shots, tmp_path_factory):
    """So many images that both processes are at work for a while; two of them are broken."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    folder.mkdir()
    for number in range(COPIES):
        for image in shots.glob("train_*.png"):
            shutil.copy(image, folder / f"{image.stem}_{number:02}.png")
    for name in ("train_003x.png", "broken.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


@pytest.fixture(scope="module")
def expected(trained_run, many, tmp_path_factory):
    output = tmp_path_factory.mktemp("expected") / "out"
    return output, predict(trained_run, many, output, **OPTIONS)


def workers():
    """The processes of this test's cluster that hold the model."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any("MapWorker" in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:  # it has just ended
            continue
    return found


def visible(found):
    return {name: text for name, text in found.items() if name[0] != "."}


def test_one_of_two_processes_is_killed(cluster, trained_run, many, expected, tmp_path):
    """Results are all there, each as one process writes it, and broken images are told of."""
    output, said = tmp_path / "out", {}

    def run():
        said.update(predict(trained_run, many, output, engine="ray", workers=2, **OPTIONS))

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 300
    while len(list(output.glob("train_*.png"))) < 6 and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    victim, *others = workers()
    victim.send_signal(signal.SIGKILL)
    there = len(list(output.glob("train_???_??.png")))
    thread.join(timeout=300)
    assert 0 < there < 7 * COPIES  # it was at work
    assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE
    assert others
    local, told = expected
    assert visible(files(output)) == visible(files(local))
    assert [result["image"] for result in said["images"]] == [result["image"] for result in told["images"]]
    assert [result["shares"] for result in said["images"]] == [result["shares"] for result in told["images"]]
    assert said["failed"] == told["failed"]
    assert names_of(said["failed"]) == ["broken.png", "train_003x.png"]


def test_from_store_to_store(store, bucket, cluster, convlora, trained_run, shots, by_one_process):
    put(store, bucket, shots, "photos")
    arguments = ["predict", trained_run, f"s3://{bucket}/photos", "--output", f"s3://{bucket}/out", "--device", "cpu"]
    arguments += ["--overlay", "--objects", "--probabilities", "--engine", "ray", "--workers", "1"]
    code, _, err = convlora(*arguments)
    assert code == 1
    assert "1 of 8 images could not be read; the others are done." in " ".join(err.split())
    found = content(store, bucket, "out")
    kept = {name: text for name, text in found.items() if not name.startswith(".done-ray/")}
    assert kept.keys() != found.keys()  # the account of what is done, for --resume
    assert kept == visible(files(by_one_process[0]))
