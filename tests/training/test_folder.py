"""What may be resumed, and which folders may be used."""

import json
import os
import shutil

import pytest

from convlora.errors import InputError
from convlora.inference.segmenter import Segmenter
from convlora.reporting import Silent
from convlora.training.arguments import planned_steps
from convlora.training.config import RunConfig
from convlora.training.folder import check_folder, check_resumed, last_checkpoint
from convlora.training.run import train


@pytest.fixture
def run(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    return tmp_path / "run"


def test_what_a_false_start_left_behind_is_no_obstacle(make_config, tmp_path):
    output = tmp_path / "run"
    (output / "checkpoints").mkdir(parents=True)
    (output / "config.yaml").write_text("half")
    assert check_folder(output, resume=False) is None
    (output / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        check_folder(output, resume=False)


def test_a_folder_that_is_no_run_is_not_resumed(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"no config\.yaml"):
        check_folder(tmp_path, resume=True)
    assert "starting from the beginning" in check_folder(tmp_path / "new", resume=True)


def test_a_finished_run_without_its_checkpoints_is_not_trained_anew_over_its_weights(run):
    shutil.rmtree(run / "checkpoints")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(InputError, match=f"checkpoints are gone.* --from {run} "):
        train(RunConfig.load(run / "config.yaml"), run, resume=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    (run / "metrics.json").unlink()  # a run that was stopped before its first checkpoint
    assert "starting from the beginning" in check_folder(run, resume=True)


def test_odd_names_among_the_checkpoints(run):
    (run / "checkpoints" / "checkpoint-old").mkdir()
    (run / "checkpoints" / ".checkpoint-9.unfinished").mkdir()
    assert last_checkpoint(run).name == "checkpoint-6"


@pytest.mark.parametrize(
    "change", ["method.r=8", "select_by=mae", "lr=1", "seed=5", "batch_size=1", "method=lora", "image_size=48"]
)
def test_another_run_is_not_resumed(run, change):
    before = (run / "config.yaml").read_text()
    config = RunConfig.load(run / "config.yaml")
    config.override([change])
    with pytest.raises(InputError, match="would be another run"):
        train(config, run, resume=True)
    assert (run / "config.yaml").read_text() == before


def test_more_epochs_and_other_places_are_fine(run):
    config = RunConfig.load(run / "config.yaml")
    config.override(["epochs=3", "logging_steps=2", "workers=0"])
    assert len(check_resumed(config, run)) == 3
    assert check_resumed(RunConfig.load(run / "config.yaml"), run) == []


@pytest.mark.parametrize("file", ["optimizer_state.safetensors", "trainer_state.json", "adapter_model.safetensors"])
def test_damaged_checkpoints_are_named(run, file):
    path = last_checkpoint(run) / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    config = RunConfig.load(run / "config.yaml")
    config.override(["epochs=3"])
    with pytest.raises(InputError, match=r"checkpoint-6.*damaged"):
        train(config, run, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda state, kept: state.update(epoch={}),
        lambda state, kept: state.update(global_step="x"),
        lambda state, kept: kept.update(history={"a": 1}),
        lambda state, kept: kept["history"][0].update(iou=None),
        lambda state, kept: kept["history"][0].pop("epoch"),
        lambda state, kept: kept.update(health=[1]),
        lambda state, kept: kept["health"].pop("said"),
        lambda state, kept: kept.update(since_log={"a": 1}),
    ],
)
def test_checkpoints_with_values_of_other_kinds_are_named(run, change):
    path = last_checkpoint(run) / "trainer_state.json"
    state = json.loads(path.read_text())
    change(state, state["stateful_callbacks"]["history"]["attributes"])
    path.write_text(json.dumps(state))
    config = RunConfig.load(run / "config.yaml")
    config.override(["epochs=3"])
    with pytest.raises(InputError, match=r"checkpoint.*damaged"):
        train(config, run, resume=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("file", ["optimizer_state.safetensors", "adapter_model.safetensors"])
def test_pipes_in_a_checkpoint_are_not_waited_for(run, file):
    path = last_checkpoint(run) / file
    path.unlink()
    os.mkfifo(path)
    config = RunConfig.load(run / "config.yaml")
    config.override(["epochs=3"])
    with pytest.raises(InputError, match=r"checkpoint-6.*is no ordinary file"):
        train(config, run, resume=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_in_the_place_of_the_log(run):
    (run / "log.jsonl").unlink()
    os.mkfifo(run / "log.jsonl")
    config = RunConfig.load(run / "config.yaml")
    config.override(["epochs=3"])
    with pytest.raises(InputError, match=r"log\.jsonl is no ordinary file"):
        train(config, run, resume=True)


@pytest.mark.parametrize(
    ("settings", "images", "processes", "steps"),
    [
        ({"epochs": 2, "batch_size": 1, "grad_accum": 4}, 6, 1, 4),
        ({"epochs": 2, "batch_size": 2, "grad_accum": 1}, 5, 2, 4),
        ({"epochs": 3, "max_steps": 2}, 8, 1, 2),
        ({"epochs": 1, "max_steps": 99}, 8, 1, 2),
    ],
)
def test_whichever_ends_first(settings, images, processes, steps):
    config = RunConfig()
    config.update({"training": settings}, origin="the test")
    assert planned_steps(config, images, processes) == steps


def test_max_steps_do_not_outlast_the_epochs(make_config, tmp_path):
    metrics = train(make_config(epochs=1, max_steps=50), tmp_path / "run")
    assert (metrics["steps"], metrics["epochs"]) == (3, 1.0)


def test_the_config_is_resolved(make_config, tmp_path, monkeypatch, blobs, tiny_sam_folder):
    monkeypatch.chdir(blobs.parent)
    config = make_config(max_steps=1)
    config.data.path = blobs.name
    train(config, tmp_path / "run")
    saved = RunConfig.load(tmp_path / "run" / "config.yaml")
    assert saved.data.path == str(blobs)
    assert saved.model.image_size == 64
    assert saved.training.precision == "fp32"
    assert "versions" in json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_interrupted_during_validation_saves_the_epoch(make_config, tmp_path, trained_run):
    import os
    import signal

    from convlora.training.run import Interrupted

    messages = []

    class PressInValidation(Silent):
        def validate_begin(self, total_images, what):
            os.kill(os.getpid(), signal.SIGINT)

        def message(self, text):
            messages.append(text)

    with pytest.raises(Interrupted, match="after step 3"):
        train(make_config(), tmp_path / "run", reporter=PressInValidation())
    assert any("Ctrl-C again" in text for text in messages)
    metrics = train(make_config(), tmp_path / "run", resume=True)
    expected = json.loads((trained_run / "metrics.json").read_text())
    assert metrics["history"] == expected["history"]
    assert metrics["test"] == expected["test"]


def test_what_is_left_open_comes_from_the_run(run, make_config):
    saved = RunConfig.load(run / "config.yaml")
    saved.override(["adapt_last=1", "activation_checkpointing=true", "expert_scales=[1,1,1,1,1,1,1,1]", "max_steps=6"])
    saved.save(run / "config.yaml")
    fresh = make_config(memory="auto", batch_size=1, grad_accum=2)
    assert check_resumed(fresh, run) == []
    assert fresh.training.adapt_last == 1
    assert fresh.training.max_steps == 6
    assert (fresh.training.batch_size, fresh.training.grad_accum) == (2, 1)
    assert fresh.training.activation_checkpointing is True
    assert fresh.training.precision == "fp32"
    assert fresh.method.options["expert_scales"] == [1] * 8


def test_damaged_results_are_made_again(run):
    (run / "metrics.json").write_text("{")
    metrics = train(RunConfig.load(run / "config.yaml"), run, resume=True)
    assert metrics["steps"] == 6


def test_what_a_killed_run_left_in_its_adapter_is_swept(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    left = tmp_path / "run" / "adapter" / ".README.unfinished-abc.md"
    left.write_text("# half of")
    shutil.copytree(tmp_path / "run" / "adapter", tmp_path / "run" / ".adapter.old")
    check_folder(tmp_path / "run", resume=True)
    assert not left.exists()
    assert not (tmp_path / "run" / ".adapter.old").exists()


def test_readers_leave_to_training_what_is_being_replaced(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "adapter").rename(tmp_path / "run" / ".adapter.old")
    Segmenter.from_run(tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_run_that_was_stopped_when_it_had_just_begun_can_be_gone_on_with(tmp_path):
    (tmp_path / "cache" / "0").mkdir(parents=True)
    assert "starting from the beginning" in check_folder(tmp_path, resume=True)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="holds no run to resume"):
        check_folder(tmp_path, resume=True)
