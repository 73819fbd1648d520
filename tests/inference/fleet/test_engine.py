"""What the process does where a prediction was asked for; the cluster is played by one process."""

import builtins
import importlib.util
from contextlib import contextmanager

import pytest

from convlora.inference.fleet import cluster, engine, places
from convlora.inference.fleet.cluster import Share, share_of
from convlora.inference.fleet.listing import chunks
from convlora.inference.fleet.work import Done
from convlora.inference.fleet.worker import Worker
from tests.inference.fleet.conftest import content, files, put

OPTIONS = ["--device", "cpu", "--overlay", "--objects", "--probabilities"]


@pytest.fixture
def played(monkeypatch):
    """Without Ray: chunks travel as text, and come back in another order."""

    @contextmanager
    def resources():
        yield {"CPU": 2.0}

    def run(task, given, suffixes, share):
        worker = Worker(task)
        done = [worker.segment(chunk).text() for chunk in chunks(given, task.output, suffixes)]
        yield from map(Done.of, reversed(done))

    monkeypatch.setattr(engine, "cluster", resources)
    monkeypatch.setattr(engine, "run", run)
    monkeypatch.setattr("convlora.api.predict_on_ray.check_installed", lambda: None)


def visible(found):
    return {name: text for name, text in found.items() if name[0] != "."}


def test_the_same_files_and_lines(played, convlora, trained_run, shots, by_one_process, tmp_path):
    arguments = ["predict", trained_run, shots, "--output", tmp_path / "out", "--engine", "ray", *OPTIONS]
    code, out, err = convlora(*arguments)
    assert code == 1
    assert "1 of 8 images could not be read; the others are done." in " ".join(err.split())
    assert visible(files(tmp_path / "out")) == visible(files(by_one_process[0]))
    assert "Segmented 7 images" in out


def test_gone_on_with_in_a_store(played, convlora, trained_run, shots, by_one_process, store, bucket):
    put(store, bucket, shots, "photos")
    arguments = ["predict", trained_run, f"s3://{bucket}/photos", "--output", f"s3://{bucket}/out", "--engine", "ray"]
    assert convlora(*arguments, *OPTIONS)[0] == 1
    before = visible(content(store, bucket, "out"))
    assert before == visible(files(by_one_process[0]))
    store.put_object(Bucket=bucket, Key="photos/broken.png", Body=(shots / "train_001.png").read_bytes())
    store.delete_object(Bucket=bucket, Key="out/train_004_overlay.png")
    code, _, err = convlora(*arguments, *OPTIONS, "--resume")
    assert code == 0
    assert "6 of 8 images were done before." in err
    after = content(store, bucket, "out")  # without the account
    after.pop("", None)  # pyarrow leaves a sign of the folder
    assert set(after) == {*before, *(f"broken{end}" for end in (".png", "_overlay.png", "_probabilities.tif"))}
    assert {name: after[name] for name in before if name[-4:] in (".png", ".tif")} == {
        name: text for name, text in before.items() if name[-4:] in (".png", ".tif")
    }
    table = after["objects.csv"].decode().splitlines()
    assert [line for line in table if not line.startswith("broken")] == before["objects.csv"].decode().splitlines()


def test_a_folder_with_other_things_is_left_alone(played, convlora, trained_run, shots, store, bucket):
    put(store, bucket, shots, "photos")
    store.put_object(Bucket=bucket, Key="mine/diary.txt", Body=b"dear diary")
    arguments = ["predict", trained_run, f"s3://{bucket}/photos", "--engine", "ray", "--device", "cpu"]
    code, _, err = convlora(*arguments, "--output", f"s3://{bucket}/mine")
    assert code == 2
    assert "holds no results of convlora" in err
    assert content(store, bucket, "mine") == {"diary.txt": b"dear diary"}


def test_what_one_of_them_finds_wrong_ends_it(played, convlora, trained_run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = convlora(
        "predict", trained_run, tmp_path / "empty", "--output", tmp_path / "out", "--engine", "ray", "--device", "cpu"
    )
    assert code == 2
    assert "holds no images" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--engine", "ray", "--polygons", "coco"], "--polygons coco"),
        (["--engine", "ray", "--device", "cuda:1"], "--device cuda:1"),
        (["--engine", "ray", "--threshold", "2"], "--threshold"),
        (["--workers", "2"], "--workers has no effect without --engine ray"),
        (["s3://bucket/photos"], "Add --engine ray"),
        (["--engine", "ray", "ftp://host/photos"], "s3:// or gs://"),
        (["--engine", "ray", "s3:///photos"], "names no bucket"),
        (["--engine", "ray", "no-such-file.png"], "no-such-file.png"),
    ],
)
def test_refused(played, convlora, trained_run, shots, tmp_path, options, named):
    code, _, err = convlora("predict", trained_run, shots, "--output", tmp_path / "out", *options)
    assert code == 2
    assert named in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_without_ray(convlora, trained_run, shots, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    code, _, err = convlora("predict", trained_run, shots, "--output", tmp_path / "out", "--engine", "ray")
    assert code == 2
    assert "pip install 'convlora[ray]'" in err


def test_how_a_cluster_is_shared_out():
    assert share_of({"CPU": 2.0}, "auto", None) == Share("cpu", 1, 2)
    assert share_of({"CPU": 2.0}, "auto", 2) == Share("cpu", 2, 1)
    assert share_of({"CPU": 64.0}, "auto", None) == Share("cpu", 16, 4)
    assert share_of({"CPU": 64.0, "GPU": 8.0}, "auto", None) == Share("cuda", 8, 1)
    assert share_of({"CPU": 64.0, "GPU": 8.0}, "cpu", 4) == Share("cpu", 4, 4)
    for resources, device, workers in (({"CPU": 2.0}, "cuda", None), ({"CPU": 2.0}, "cpu", 3)):
        with pytest.raises(ValueError, match="Ray cluster"):
            share_of(resources, device, workers)


def test_the_local_engine_needs_no_ray(convlora, trained_run, shots, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert convlora("predict", trained_run, shots / "train_001.png", "--output", tmp_path, "--device", "cpu")[0] == 0


def test_only_stores_that_are_known():
    assert places.is_remote("s3://a/b")
    assert not places.is_remote("C:\\photos")
    assert not places.is_remote("photos/a.png")
