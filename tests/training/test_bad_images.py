"""Bad files in the data of a run: before it begins, left out, or gone bad while it trains."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from convlora.cli.main import run as run_program
from convlora.errors import InputError
from convlora.reporting import Silent
from convlora.training import usable_data
from convlora.training.config import RunConfig
from convlora.training.folder import last_checkpoint
from convlora.training.run import train
from tests.helpers.messages import says


class Listen(Silent):
    """Keeps what was said, and does something at a step."""

    def __init__(self, at=None, act=None):
        self.said, self.at, self.act = [], at, act

    def message(self, text):
        self.said.append(text)

    def step(self, step, epoch, loss):
        if step == self.at:
            self.act()


@pytest.fixture
def data(blobs, tmp_path):
    """Six images to train on, three to validate and three to test on."""
    return shutil.copytree(blobs, tmp_path / "data")


@pytest.fixture
def config_of(make_config, data):
    def make(**settings):
        config = make_config(**settings)
        config.data.path = str(data)
        return config

    return make


def files(data, kind, split="train"):
    return sorted((data / split / kind).iterdir())


def spoil(data):
    """Four files of which none can be used, each for another reason; returns them with the reasons."""
    images, masks = files(data, "images"), files(data, "masks")
    images[0].write_bytes(images[0].read_bytes()[:300])
    with Image.open(masks[1]) as opened:
        values = np.asarray(opened).copy()
    values[0, 0] = 7
    Image.fromarray(values).save(masks[1])
    validated = files(data, "masks", "val")[0]
    validated.unlink()
    tested = files(data, "masks", "test")[2]
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tested)
    lonely = files(data, "images", "val")[0]
    return {
        str(lonely): ("val", f"{lonely} has no mask. Add {validated.with_suffix('.png')} or remove the image."),
        str(images[0]): ("train", f"{images[0]} is damaged or cut short. Replace the file."),
        str(masks[1]): ("train", f"{masks[1]} holds the value 7 (found: "),
        str(tested): ("test", f"{tested} is 5x5 pixels (width x height), but its image "),
    }


def skipping(config):
    config.data.on_bad_image = "skip"
    return config


@pytest.fixture
def skipped_run(config_of, data, tmp_path):
    expected = spoil(data)
    listen = Listen()
    metrics = train(skipping(config_of(epochs=1)), tmp_path / "run", reporter=listen)
    return tmp_path / "run", expected, listen.said, metrics


def test_bad_files_are_left_out_and_listed(skipped_run, data):
    run, expected, said, metrics = skipped_run
    listed = json.loads((run / "skipped.json").read_text())
    assert [set(entry) for entry in listed] == [{"path", "split", "reason"}] * 4
    assert {entry["path"]: entry["split"] for entry in listed} == {path: one[0] for path, one in expected.items()}
    for entry in listed:
        assert entry["reason"].startswith(expected[entry["path"]][1])
    assert said.count(f"4 files are left out; {run / 'skipped.json'} says which and why.") == 1
    assert metrics["steps"] == 2, "four images, two at a time"
    assert metrics["val"]["num_images"] == metrics["test"]["num_images"] == 2
    assert RunConfig.load(run / "config.yaml").data.on_bad_image == "skip"


def test_a_resumed_run_leaves_out_the_same_files(skipped_run, data, tmp_path, config_of):
    run, _, _, _ = skipped_run
    before = (run / "skipped.json").read_text()
    moved = data.rename(tmp_path / "moved")
    config = RunConfig.load(run / "config.yaml")
    config.data.path, config.training.epochs = str(moved), 2
    assert train(config, run, resume=True)["steps"] == 4
    assert json.loads((run / "skipped.json").read_text()) == json.loads(before.replace(str(data), str(moved)))


@pytest.mark.parametrize("change", ["mended", "worse"])
def test_a_run_is_not_resumed_without_other_files(skipped_run, blobs, data, change):
    run, _, _, _ = skipped_run
    images = files(data, "images")
    if change == "mended":
        shutil.copy(blobs / images[0].relative_to(data), images[0])
        words = f"{images[0].relative_to(data)} in train was left out and no longer is"
    else:
        images[5].write_bytes(b"")
        words = f"{images[5].relative_to(data)} in train would be left out now and was not before"
    config = RunConfig.load(run / "config.yaml")
    config.training.epochs = 2
    before = (run / "config.yaml").read_text(), (run / "skipped.json").read_text()
    with pytest.raises(InputError) as caught:
        train(config, run, resume=True)
    says(str(caught.value), run, words, "Restore the data", "--output")
    assert before == ((run / "config.yaml").read_text(), (run / "skipped.json").read_text())


def test_a_damaged_list_is_named(skipped_run):
    run, _, _, _ = skipped_run
    (run / "skipped.json").write_text("{")
    with pytest.raises(InputError, match=r"skipped\.json is damaged"):
        train(RunConfig.load(run / "config.yaml"), run, resume=True)


def test_stop_and_skip_are_not_exchanged_in_a_run(skipped_run):
    run, _, _, _ = skipped_run
    config = RunConfig.load(run / "config.yaml")
    config.data.on_bad_image = "stop"
    with pytest.raises(InputError, match=r"data\.on_bad_image = 'stop' instead of 'skip'"):
        train(config, run, resume=True)


def test_nothing_left_out_is_an_empty_list(config_of, tmp_path):
    listen = Listen()
    train(skipping(config_of(max_steps=1)), tmp_path / "run", reporter=listen)
    assert json.loads((tmp_path / "run" / "skipped.json").read_text()) == []
    assert not any("left out" in text for text in listen.said)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_what_remains_must_be_trainable(config_of, data, tmp_path, split):
    for image in files(data, "images", split):
        image.write_bytes(b"")
    first = files(data, "images", split)[0]
    count = len(files(data, "images", split))
    with pytest.raises(InputError) as caught:
        train(skipping(config_of()), tmp_path / "run")
    says(str(caught.value), f"'{split}'", data, f"{count - 1} more", f"{first} is empty")
    assert not (tmp_path / "run").exists()


def test_classes_that_cannot_be_told_are_not_skipped(config_of, data, tmp_path):
    (data / "classes.json").write_text("{")
    with pytest.raises(InputError, match=r"classes\.json is not valid JSON"):
        train(skipping(config_of()), tmp_path / "run")


def test_with_stop_small_data_are_read_whole_before_training(config_of, data, tmp_path):
    """Not only headers: a class that occurs in one validation mask only, and a file that ends too early."""
    expected = spoil(data)
    listen = Listen()
    with pytest.raises(InputError) as caught:
        train(config_of(), tmp_path / "run", reporter=listen)
    assert str(caught.value).startswith(next(iter(expected.values()))[1])
    assert "--on-bad-image skip leaves bad files out" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_with_stop_large_data_are_not_read_whole_and_that_is_said(config_of, data, tmp_path, monkeypatch):
    monkeypatch.setattr(usable_data, "READ_WHOLE_UP_TO", 11)
    victim = files(data, "images")[0]
    victim.write_bytes(victim.read_bytes()[:-200])
    listen = Listen()
    with pytest.raises(InputError) as caught:
        train(config_of(), tmp_path / "run", reporter=listen)
    says(str(caught.value), f"{victim} is damaged", "Nothing was saved yet")
    says(listen.said[0], "12 images", "headers", "48 masks", f"convlora data check {data}")


def test_values_of_unknown_range_stop_a_run_before_it_begins(config_of, data, tmp_path):
    victim = files(data, "images")[0]
    with Image.open(victim) as opened:
        values = np.asarray(opened.convert("L")).astype(np.float32) - 500
    victim.unlink()
    Image.fromarray(values).save(victim.with_suffix(".tif"))
    with pytest.raises(
        InputError,
        match=r"range is unknown.* 65535.* --set data\.intensity=image",
    ):
        train(config_of(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config = config_of(max_steps=1)
    config.data.intensity = "image"
    assert train(config, tmp_path / "run")["steps"] == 1


def test_copies_in_two_splits_are_told_and_do_not_stop_a_run(config_of, data, tmp_path):
    one, other = files(data, "images")[0], files(data, "images", "test")[0]
    shutil.copy(one, other)
    shutil.copy(files(data, "masks")[0], files(data, "masks", "test")[0])
    listen = Listen()
    train(config_of(max_steps=1), tmp_path / "run", reporter=listen)
    says(listen.said[0], "Warning: ", f"{other} in test", f"{one} in train", "same image")


def deleted(path):
    path.unlink()


def cut_short(path):
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("harm", "words", "workers"),
    [
        (deleted, "does not exist", 0),
        (cut_short, "damaged", 1),
    ],
)
def test_a_file_that_goes_bad_while_training(
    config_of, data, tmp_path, trained_run, capsys, monkeypatch, harm, words, workers
):
    """Through the command line: one sentence that names it, exit code 2, and a checkpoint to go on from."""
    from convlora.cli import progress

    victims = files(data, "images")
    kept = shutil.copytree(data / "train" / "images", tmp_path / "kept")
    done = []

    def step(self, step, epoch, loss):
        if step == 4 - workers and not done:  # a worker reads ahead
            done.append([harm(victim) for victim in victims])

    monkeypatch.setattr(progress.RunProgress, "step", step)
    config = config_of()
    config.data.workers = workers
    config.save(tmp_path / "config.yaml")
    command = ["train", "--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as caught:
        run_program(command)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert "Traceback" not in error
    message = error[error.index("Error: ") :].strip()
    named = next(victim for victim in victims if str(victim) in message)
    assert message.startswith(f"Error: {named} ")
    says(message, words, "from step 3", "--resume")
    assert len(message.splitlines()) == 1
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-3"
    assert not (tmp_path / "run" / "metrics.json").exists()

    shutil.copytree(kept, data / "train" / "images", dirs_exist_ok=True)
    with pytest.raises(SystemExit) as caught:
        run_program([*command, "--resume"])
    assert caught.value.code == 0
    found, expected = (json.loads((run / "metrics.json").read_text()) for run in (tmp_path / "run", trained_run))
    assert found["history"] == expected["history"]


def test_evaluate_stops_at_a_bad_file(trained_run, data, tmp_path, capsys):
    victim = files(data, "images", "test")[1]
    cut_short(victim)
    with pytest.raises(SystemExit) as caught:
        run_program(["evaluate", str(trained_run), str(data), "--output", str(tmp_path / "scores"), "--device", "cpu"])
    shown = capsys.readouterr()
    assert (caught.value.code, shown.out) == (2, "")
    assert shown.err.startswith(f"Error: {victim} is damaged")
    assert len(shown.err.splitlines()) == 1
    assert not (tmp_path / "scores").exists()


def test_the_option_reaches_the_settings(data, tmp_path, capsys):
    for image in files(data, "images", "val"):
        image.write_bytes(b"")
    for more in (["--on-bad-image", "skip"], ["--set", "on_bad_image=skip"]):
        with pytest.raises(SystemExit) as caught:
            run_program(["train", str(data), "--model", "tiny", "--output", str(tmp_path / "run"), *more])
        assert caught.value.code == 2
        assert "Nothing in the split 'val'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        run_program(["train", str(data), "--output", str(tmp_path / "run"), "--set", "on_bad_image=guess"])
    assert "data.on_bad_image must be one of 'stop', 'skip'" in capsys.readouterr().err


def test_a_comparison_leaves_bad_files_out_too(make_config, data, tmp_path):
    from convlora.comparison.plan import make_plan
    from convlora.comparison.run import run_plan

    spoil(data)
    base = make_config(max_steps=1)
    base.data.path = str(data)
    with pytest.raises(InputError, match="has no mask"):
        run_plan(make_plan(["lora"], 1, [1.0], [], base), tmp_path / "stop", say=print)
    plan = make_plan(["lora"], 1, [1.0], [], skipping(base))
    run_plan(plan, tmp_path / "skip", say=print, runner=train)
    (run,) = (tmp_path / "skip").glob("runs/*/*")
    assert len(json.loads((run / "skipped.json").read_text())) == 4


@pytest.mark.parametrize("bands", [None, 4])
def test_what_helps_with_no_file_is_not_said(config_of, data, bands):
    config = config_of()
    config.model.bands = bands
    for path in data.glob("*/images/*.png"):
        if bands is None:
            path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"\(and \d+ more\)$"):
        usable_data.load_data(config, print)


def test_what_helps_with_some_files_is_said(config_of, data):
    for path in (data / "train" / "images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"more; .*--on-bad-image skip leaves bad files out\)$"):
        usable_data.load_data(config_of(), print)
