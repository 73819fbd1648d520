"""The functions do what the commands do, and return what these print with --json."""

import copy
import inspect
import json
import logging
import shutil

import pytest

import convlora as package
from convlora.comparison import run as comparison_run
from convlora.errors import InputError
from convlora.training import run as training_run


@pytest.fixture
def convlora_json(convlora):
    def call(*arguments):
        code, out, _ = convlora(*arguments, "--json")
        assert code == 0
        return json.loads(out)

    return call


def test_evaluate_returns_what_the_command_prints(convlora_json, trained_run, blobs):
    found = package.evaluate(trained_run, blobs, device="cpu")
    assert found == convlora_json("evaluate", trained_run, blobs, "--device", "cpu")


def test_predict_returns_what_the_command_prints(convlora_json, trained_run, blobs, tmp_path):
    images = blobs / "test" / "images"
    found = package.predict(trained_run, images, tmp_path / "a", overlay=True, device="cpu")
    printed = convlora_json("predict", trained_run, images, "--output", tmp_path / "b", "--overlay", "--device", "cpu")
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in "ab"]
    assert names[0] == names[1]
    assert [one["shares"] for one in found["images"]] == [one["shares"] for one in printed["images"]]
    assert found["failed"] == printed["failed"] == []


def test_an_image_that_cannot_be_read_is_reported_not_raised(trained_run, blobs, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = next((blobs / "test" / "images").iterdir())
    found = package.predict(trained_run, [good, tmp_path / "bad.png"], tmp_path / "out", device="cpu")
    assert [one["image"] for one in found["images"]] == [str(good)]
    assert [one["image"] for one in found["failed"]] == [str(tmp_path / "bad.png")]


def test_an_overlap_without_windows_is_refused(trained_run, blobs, tmp_path):
    with pytest.raises(InputError, match="tile_overlap has no effect without tile=True or tile_size"):
        package.predict(trained_run, blobs / "test" / "images", tmp_path / "out", tile_overlap=0.5)
    assert not (tmp_path / "out").exists()


def test_no_images_at_all_are_a_mistake(trained_run, tmp_path):
    with pytest.raises(InputError, match="No images are named"):
        package.predict(trained_run, sorted(tmp_path.glob("*.JPEG")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_messages_are_logged(trained_run, blobs, tmp_path, caplog):
    (tmp_path / "d" / "below").mkdir(parents=True)
    good = next((blobs / "test" / "images").iterdir())
    for place in ("a.png", "below/b.png"):
        (tmp_path / "d" / place).write_bytes(good.read_bytes())
    with caplog.at_level(logging.INFO, logger="convlora"):
        package.predict(trained_run, tmp_path / "d", tmp_path / "out", device="cpu")
    assert any("below" in record.message for record in caplog.records)


FAST = {"model": "tiny", "image_size": 64, "epochs": 1, "device": "cpu", "lr": 1e-3}
OPTIONS = ["--model", "tiny", "--image-size", "64", "--epochs", "1", "--device", "cpu", "--lr", "1e-3"]


def test_train_does_what_the_command_does(convlora_json, blobs, tmp_path):
    found = package.train(blobs, tmp_path / "a", workers=0, r=2, **FAST)
    printed = convlora_json(
        "train", blobs, "--output", tmp_path / "b", *OPTIONS, "--set", "data.workers=0", "--set", "method.r=2"
    )
    assert found["run"] == str(tmp_path / "a")
    assert found.keys() == printed.keys()
    assert found["test"] == printed["test"]
    settings = [(tmp_path / folder / "config.yaml").read_text() for folder in "ab"]
    assert settings[0] == settings[1]


def test_train_leaves_its_configuration_as_it_is(blobs, tmp_path):
    config = package.RunConfig()
    config.update({"model": {"source": "tiny", "image_size": 64}, "training": {"device": "cpu"}}, origin="the test")
    before = copy.deepcopy(config)
    package.train(blobs, tmp_path / "run", config=config, max_steps=1)
    assert config == before
    again = package.train(None, tmp_path / "again", config=tmp_path / "run" / "config.yaml")
    assert again["steps"] == 1


def test_train_resumes(blobs, tmp_path):
    first = package.train(blobs, tmp_path / "run", **FAST)
    second = package.train(blobs, tmp_path / "run", resume=True)
    assert second["steps"] == first["steps"]
    assert second["test"] == first["test"]


def test_a_setting_that_there_is_not_is_a_type_error(blobs, tmp_path):
    with pytest.raises(TypeError, match=r"'epoch'.*'epochs'"):
        package.train(blobs, tmp_path / "run", epoch=3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1}, "^lr must be"),
        ({"image_size": "large"}, "^image_size must be"),
        ({"budget_seconds": 5, "max_steps": 2}, "budget_seconds .* and max_steps"),
        ({"workers": -1}, "^data.workers must be"),
    ],
)
def test_errors_name_arguments(blobs, tmp_path, settings, message):
    with pytest.raises(InputError, match=message) as error:
        package.train(blobs, tmp_path / "run", **settings)
    assert "--" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_compare_does_what_the_command_does(convlora_json, blobs, tmp_path, monkeypatch):
    """One of its runs is trained in a process of its own, as for users; the other one here, which is quicker."""

    def train(config, folder, *more, in_own_process=comparison_run._train_in_own_process):
        if "decoder" in folder.parts:
            in_own_process(config, folder, *more)
        else:
            training_run.train(config, folder)

    monkeypatch.setattr(comparison_run, "_train_in_own_process", train)
    found = package.compare(blobs, tmp_path / "a", methods=["decoder", "lora:r=2"], seeds=1, **FAST)
    printed = convlora_json(
        "compare", blobs, "--methods", "decoder,lora:r=2", "--seeds", "1", "--output", tmp_path / "a", *OPTIONS
    )
    assert found == printed  # the runs are those of before
    assert [row["method"] for row in found["rows"]] == ["decoder", "lora:r=2"]
    assert (tmp_path / "a" / "compare.html").is_file()


def test_check_data_does_what_the_command_does(convlora_json, blobs):
    found = package.check_data(blobs, image_size=64)
    assert found == convlora_json("data", "check", blobs, "--image-size", "64")
    assert found["ok"]
    assert found["reachable"][0]["image_size"] == [64, 64]
    assert package.check_data(str(blobs), image_size=(64, 96))["reachable"][0]["image_size"] == [64, 96]


def test_check_data_returns_problems_instead_of_raising(blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "data")
    mask = next((tmp_path / "data" / "train" / "masks").iterdir())
    mask.unlink()
    found = package.check_data(tmp_path / "data")
    assert not found["ok"]
    assert [problem["kind"] for problem in found["problems"] if problem["severity"] == "error"] == ["missing-pair"]


@pytest.mark.parametrize("settings", [{"image_size": 65}, {"detail": "most"}])
def test_check_data_refuses_what_is_no_size(blobs, settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        package.check_data(blobs, **settings)


@pytest.mark.parametrize("name", ["train", "evaluate", "predict", "compare", "check_data"])
def test_functions_say_what_they_take(name):
    function = getattr(package, name)
    assert function.__doc__
    assert next(iter(inspect.signature(function).parameters)) in ("data", "run")
