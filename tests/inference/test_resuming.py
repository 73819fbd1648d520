"""A prediction over a folder that is interrupted, or spread over processes, ends like one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from PIL import Image

from convlora.cli.main import run as program
from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.inference.files.plan import Job
from convlora.inference.files.resuming import DoneList, fingerprint
from convlora.inference.windows import Tiles
from tests.helpers.forked import Forked
from tests.helpers.wait_at import wait_at

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = write_task("cells", tmp_path_factory.mktemp("photos") / "data", num_train=7, num_val=1, num_test=1, seed=9)
    return folder / "train" / "images"


@pytest.fixture(scope="module")
def whole(trained_run, photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "out"
    with pytest.raises(SystemExit) as caught:
        program(["predict", str(trained_run), str(photos), "--output", str(output), "--device", "cpu"])
    assert caught.value.code == 0
    return output


def same(one, other):
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in other.iterdir()) == names
    assert [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()] == []


def test_killed_and_gone_on_with(convlora, trained_run, photos, whole, tmp_path):
    output = tmp_path / "out"
    arguments = ["predict", str(trained_run), str(photos), "--output", str(output), "--device", "cpu"]
    process = Forked(*arguments, prepare=partial(wait_at, "train_005"))
    for _ in range(1200):
        done = output / ".done-0.jsonl"
        if (output / "train_004.png").is_file() and sum(map(bool, done.read_text().splitlines())) == 5:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (output / "shares.json").exists()
    untouched = (output / "train_003.png").stat().st_mtime_ns
    code, out, err = convlora(*arguments, "--resume", "--json")
    assert code == 0
    assert "5 of 7 images were done before." in err
    assert len(json.loads(out)["images"]) == 7
    assert (output / "train_003.png").stat().st_mtime_ns == untouched
    same(whole, output)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.processes)])
def test_interrupted_and_told_how_to_go_on(convlora, trained_run, photos, whole, tmp_path, number):
    output = tmp_path / "out"
    arguments = ["predict", str(trained_run), str(photos), "--output", str(output), "--device", "cpu"]
    process = Forked(*arguments, prepare=partial(wait_at, "train_001"))
    for _ in range(1200):
        if (output / ".done-0.jsonl").is_file():
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate()
    assert process.returncode == 1
    assert "Interrupted. Go on with the same command and --resume." in told
    assert "Traceback" not in told
    (output / ".train_003.unfinished-x.png").write_bytes(b"of a killed process")
    (output / ".other.unfinished-x.png").write_bytes(b"of another process, which may be at work")
    assert convlora(*arguments, "--resume")[0] == 0
    (output / ".other.unfinished-x.png").unlink()
    same(whole, output)


def test_bad_images_are_all_that_is_left_to_do(convlora, trained_run, photos, tmp_path):
    mixed = tmp_path / "photos"
    shutil.copytree(photos, mixed)
    (mixed / "train_002.png").write_bytes(b"")
    arguments = ["predict", trained_run, mixed, "--output", tmp_path / "out", "--device", "cpu", "--resume"]
    code, _, err = convlora(*arguments)
    assert code == 1
    assert "1 of 7 images could not be read; the others are done." in " ".join(err.split())
    shutil.copy2(photos / "train_002.png", mixed / "train_002.png")
    code, _, err = convlora(*arguments)
    assert code == 0
    assert "6 of 7 images were done before." in err
    assert not list((tmp_path / "out").glob(".*"))


def test_other_ways_to_use_a_run_begin_anew(convlora, trained_run, tiny_sam_folder, photos, tmp_path):
    mixed, sam = tmp_path / "photos", tmp_path / "sam"
    shutil.copytree(photos, mixed)
    (mixed / "train_002.png").write_bytes(b"")  # so that the account is kept
    shutil.copytree(tiny_sam_folder, sam)
    arguments = ["predict", trained_run, mixed, "--output", tmp_path / "out", "--device", "cpu", "--resume"]
    assert "done before" not in convlora(*arguments)[2]
    assert "done before" not in convlora(*arguments, "--precision", "bf16")[2]
    assert "done before" not in convlora(*arguments, "--model", sam)[2]
    assert "6 of 7 images were done before." in convlora(*arguments, "--model", sam)[2]


@pytest.mark.processes
def test_two_processes_share_the_images(trained_run, photos, whole, tmp_path):
    output = tmp_path / "out"
    command = [*LAUNCHER, "convlora.cli.main", "predict", str(trained_run), str(photos), "--output", str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, "--device", "cpu", "--json"], capture_output=True, text=True, check=True, env=environment
    )
    assert result.stdout.count("\n") == 1
    images = [entry["image"] for entry in json.loads(result.stdout)["images"]]
    assert images == sorted(str(path) for path in photos.iterdir())
    same(whole, output)


def job(folder, name="a"):
    return Job(folder / f"{name}.jpg", folder / f"{name}.png", None)


def test_only_results_of_the_same_run_and_image_count(trained_run, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "a.png").write_bytes(b"result")
    done = DoneList(tmp_path, "print", 0)
    done.add(job(tmp_path), {"shares": {}})
    (tmp_path / ".done-1.jsonl").write_text('{"key": "x", "made_by": "print", "resu')  # of a killed process
    assert DoneList(tmp_path, "print", 3).earlier([job(tmp_path)]) == {
        job(tmp_path): {"shares": {}, "image": str(tmp_path / "a.jpg"), "mask": str(tmp_path / "a.png")}
    }
    DoneList(tmp_path, "print", 1).add(job(tmp_path, "b"), {"shares": {}})  # after half a line
    assert len(DoneList(tmp_path, "print", 3).earlier([job(tmp_path), job(tmp_path, "b")])) == 2
    assert DoneList(tmp_path, "other", 0).earlier([job(tmp_path)]) == {}
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert done.earlier([job(tmp_path)]) == {}, "the result is gone"
    (tmp_path / "b.png").write_bytes(b"another")
    (tmp_path / "b.png").rename(tmp_path / "a.png")
    assert done.earlier([job(tmp_path)]) == {}, "the result is that of something else"
    (tmp_path / "a.png").write_bytes(b"result")
    done.add(job(tmp_path), {"shares": {}})
    spelt = Job(tmp_path / "." / "x" / ".." / "a.jpg", tmp_path / "a.png", None)
    (tmp_path / "x").mkdir()
    assert done.earlier([spelt])[spelt]["image"] == str(spelt.image), "as it is called now"
    (tmp_path / "x").rmdir()
    Image.new("RGB", (5, 4)).save(tmp_path / "a.jpg")
    assert done.earlier([job(tmp_path)]) == {}, "the image is another"
    done.forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.png"]
    prints = {fingerprint(trained_run, *how) for how in ((None, False), (None, True), (Tiles(64), False))}
    assert len(prints) == 3


def test_the_account_is_not_kept_through_a_link(tmp_path):
    output, dear = tmp_path / "out", tmp_path / "dear.txt"
    output.mkdir()
    dear.write_text("dear\n")
    os.mkfifo(output / ".done-2.jsonl")
    done = DoneList(output, "print", 0)
    with pytest.raises(InputError, match=r"\.done-2\.jsonl is no ordinary file"):  # it would be waited for
        done.earlier([job(tmp_path)])
    done.forget()
    (output / ".done-0.jsonl").symlink_to(dear)
    for call in (lambda: done.earlier([job(tmp_path)]), lambda: done.add(job(tmp_path), {"shares": {}})):
        with pytest.raises(InputError, match=r"\.done-0\.jsonl is a link, .* Remove it"):
            call()
    assert dear.read_text() == "dear\n"
    done.forget()
    done.add(job(tmp_path), {"shares": {}})
    assert dear.read_text() == "dear\n"
    assert [path.name for path in output.iterdir()] == [".done-0.jsonl"]


def test_without_resume_everything_is_done_again(trained_run, photos, tmp_path, capsys):
    Image.open(next(photos.iterdir())).save(tmp_path / "a.png")
    for extra in ([], ["--resume"]):
        with pytest.raises(SystemExit):
            program(["predict", str(trained_run), str(tmp_path / "a.png"), "--output", str(tmp_path / "o"), *extra])
        assert "done before" not in capsys.readouterr().err
