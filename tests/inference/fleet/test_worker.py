"""One process that segments chunks: what it writes, what it does not do again, and what it leaves out."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from convlora.inference.fleet import account, worker
from convlora.inference.fleet.listing import chunks
from convlora.inference.fleet.worker import Worker
from tests.inference.fleet.conftest import content, files, names_of, put, task_for


@pytest.fixture(scope="module")
def loaded(trained_run):
    return Worker(task_for(trained_run, "/nowhere"))


@pytest.fixture
def segmented(monkeypatch):
    """Names of the images that a model has seen."""
    seen = []
    original = worker.run_jobs

    def run_jobs(segmenter, jobs, **kwargs):
        for result in original(segmenter, jobs, **kwargs):
            seen.append(Path(result["image"]).name)
            yield result

    monkeypatch.setattr(worker, "run_jobs", run_jobs)
    return seen


def work_of(loaded, output, **changes):
    """The same model, with results that go elsewhere."""
    loaded.task = replace(loaded.task, output=str(output), **({"token": "t", "made_by": "x"} | changes))
    return loaded


def all_of(loaded, *given):
    listed = chunks([str(one) for one in given], loaded.task.output, ("", "_overlay", "_probabilities"))
    return [loaded.segment(chunk) for chunk in listed]


def per_image(found):
    return {name: text for name, text in found.items() if name not in ("shares.json", "objects.csv") and name[0] != "."}


def results_of(outcomes):
    return [result for one in outcomes for result in one.results]


def kept_of(outcomes):
    return [result for one in outcomes for result in one.kept]


def test_files_are_those_of_one_process(loaded, shots, by_one_process, tmp_path):
    output, said = by_one_process
    outcomes = all_of(work_of(loaded, tmp_path / "out"), shots)
    assert files(tmp_path / "out") == per_image(files(output))
    good = {result["image"]: result for result in results_of(outcomes) if "error" not in result}
    assert len(good) == 7
    for expected in said["images"]:
        names = {kind: Path(expected[kind]).name for kind in ("mask", "overlay", "probabilities")}
        places = {kind: str(tmp_path / "out" / name) for kind, name in names.items()}
        assert good[expected["image"]] == expected | places
    (failed,) = [result for result in results_of(outcomes) if "error" in result]
    assert failed == said["failed"][0]


def test_files_in_a_store(loaded, shots, by_one_process, store, bucket):
    put(store, bucket, shots, "photos")
    place = f"s3://{bucket}/out"
    outcomes = all_of(work_of(loaded, place), f"s3://{bucket}/photos")
    found = {name: text for name, text in content(store, bucket, "out").items() if not name.startswith(".done-ray/")}
    assert found == per_image(files(by_one_process[0]))
    (failed,) = [result for result in results_of(outcomes) if "error" in result]
    assert failed["image"] == f"s3://{bucket}/photos/broken.png"
    assert failed["error"].startswith(failed["image"])
    assert "convlora-" not in failed["error"]
    assert {result["mask"].rpartition("/")[0] for result in results_of(outcomes) if "error" not in result} == {place}


def test_what_is_done_is_not_done_again(loaded, shots, segmented, tmp_path):
    place, given = tmp_path / "out", tmp_path / "photos"
    shutil.copytree(shots, given)
    first = all_of(work_of(loaded, place), given)
    assert len(segmented) == 8
    segmented.clear()
    second = all_of(loaded, given)
    assert segmented == ["broken.png"]
    assert kept_of(second) == [result for result in results_of(first) if "error" not in result]
    assert [one.pieces for one in first] == [one.pieces for one in second]
    shutil.copy(shots / "train_001.png", given / "broken.png")  # an image that is repaired
    (place / "train_004_overlay.png").unlink()  # a result that is lost
    segmented.clear()
    third = all_of(loaded, given)
    assert sorted(segmented) == ["broken.png", "train_004.png"]
    assert len(kept_of(third)) == 6
    assert kept_of(all_of(work_of(loaded, place, made_by="another model"), given)) == []


@pytest.fixture
def one_chunk(shots):
    """All images as one piece of work."""
    (first, *_) = chunks([str(shots)], "/out", ("",))
    return replace(first, images=[[str(path), None] for path in sorted(shots.iterdir()) if path.stem != "broken"])


class Killed(BaseException):
    """Stands for the end of a process."""


def test_a_killed_process_loses_nothing(loaded, one_chunk, by_one_process, segmented, monkeypatch, tmp_path):
    monkeypatch.setattr(account, "_EVERY", 0.0)
    monkeypatch.setattr(worker.Batch, "failed", None)
    own, original = work_of(loaded, tmp_path / "out"), worker.Batch.add

    def add(batch, job, result):
        if job.image.stem == "train_004":
            raise Killed
        original(batch, job, result)
        batch.finish()

    monkeypatch.setattr(worker.Batch, "add", add)
    with pytest.raises(Killed):
        own.segment(one_chunk)
    monkeypatch.setattr(worker.Batch, "add", original)
    segmented.clear()
    done = own.segment(one_chunk)
    assert segmented == ["train_004.png", "train_005.png", "train_006.png"]
    assert len(done.kept) + len(done.results) == 7
    assert len(done.pieces) == 7
    assert files(tmp_path / "out") == per_image(files(by_one_process[0]))


def test_an_image_that_ends_processes_is_left_out(loaded, one_chunk, monkeypatch, tmp_path):
    own, original, ended = work_of(loaded, tmp_path / "out", made_by="a patient one"), worker.run_jobs, 0

    def run_jobs(segmenter, jobs, **kwargs):
        if any(image.name.endswith("train_003.png") for image in jobs._images):
            raise Killed
        yield from original(segmenter, jobs, **kwargs)

    monkeypatch.setattr(worker, "run_jobs", run_jobs)
    while True:
        try:
            done = own.segment(one_chunk)
            break
        except Killed:
            ended += 1
    assert ended == 4  # two in the chunk, two at the image
    (failed,) = [result for result in done.results if "error" in result]
    assert failed["error"].startswith(f"{one_chunk.images[3][0]} was left out: 2 processes ended")
    assert len(done.kept) + len(done.results) == 7
    again = work_of(loaded, tmp_path / "out", made_by="a patient one", token="later")  # noqa: S106
    monkeypatch.setattr(worker, "run_jobs", original)
    assert names_of(again.segment(one_chunk).results) == ["train_003.png"]  # has another try


def test_a_file_that_is_not_ours_stays(loaded, shots, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "train_002.png").write_bytes(b"drawn by hand")
    failed = [result for result in results_of(all_of(work_of(loaded, output), shots)) if "error" in result]
    assert names_of(failed) == ["broken.png", "train_002.png"]
    assert "was not made by convlora" in failed[1]["error"]
    assert (output / "train_002.png").read_bytes() == b"drawn by hand"


def test_a_result_does_not_replace_its_image(loaded, shots, store, bucket):
    put(store, bucket, shots, "photos")
    place = f"s3://{bucket}/photos"
    results = results_of(all_of(work_of(loaded, place), place))
    assert all("would replace it" in result["error"] for result in results if "broken" not in result["image"])
    assert content(store, bucket, "photos")["train_001.png"] == (shots / "train_001.png").read_bytes()


def test_an_upload_that_fails_is_said(loaded, shots, store, bucket):
    put(store, bucket, shots, "photos")
    outcomes = all_of(work_of(loaded, "s3://there-is-none/out"), f"s3://{bucket}/photos")
    assert all("there-is-none" in one.fatal[0] for one in outcomes)


def test_a_run_that_is_not_there(tmp_path, shots):
    lost = Worker(task_for(tmp_path / "no-run", tmp_path / "out"))
    (why, is_input) = all_of(lost, shots)[0].fatal
    assert is_input
    assert "no-run" in why
