"""A U-Net is trained, scored and used by the same commands as an adapted SAM."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from convlora.data.synthetic import write_task
from convlora.errors import InputError, RunError
from convlora.inference.segmenter import Segmenter
from convlora.training import memory
from convlora.training.config import RunConfig
from convlora.training.run import Interrupted, train
from tests.helpers.interrupt_at import InterruptAt


def settings(data, **training):
    config = RunConfig()
    training = {"epochs": 2, "batch_size": 2, "grad_accum": 1, "device": "cpu"} | training
    sections = {
        "data": {"path": str(data)},
        "model": {"image_size": 32},
        "method": {"name": "unet", "width": 8},
        "training": training,
    }
    config.update(sections, origin="the test")
    return config


@pytest.fixture(scope="module")
def unet_run(blobs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet") / "run"
    train(settings(blobs), folder)
    return folder


def test_the_run_folder(unet_run):
    metrics = json.loads((unet_run / "metrics.json").read_text())
    assert metrics["params"]["trainable"] == metrics["params"]["total"] > 400_000
    saved = yaml.safe_load((unet_run / "config.yaml").read_text())
    assert (saved["model"]["source"], saved["model"]["image_size"], saved["training"]["lr"]) == ("unet", 32, 1e-3)
    assert not (unet_run / "sam.json").exists(), "it was made from no SAM"
    card = (unet_run / "adapter" / "README.md").read_text()
    assert "# U-Net" in card
    assert "base_model" not in card
    assert "segment-anything" not in card


def test_interrupted_and_resumed_equals_uninterrupted(unet_run, blobs, tmp_path):
    with pytest.raises(Interrupted):
        train(settings(blobs), tmp_path / "run", reporter=InterruptAt(4))
    train(settings(blobs), tmp_path / "run", resume=True)
    one, two = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (unet_run, tmp_path / "run"))
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_commands_on_a_run(unet_run, blobs, convlora, tmp_path):
    code, out, told = convlora("evaluate", unet_run, blobs, "--device", "cpu", "--json")
    assert code == 0, told
    assert json.loads(out)["iou"] == json.loads((unet_run / "metrics.json").read_text())["test"]["iou"]
    images = blobs / "test" / "images"
    code, _, told = convlora("predict", unet_run, images, "--output", tmp_path / "p", "--device", "cpu")
    assert code == 0, told
    assert len(list((tmp_path / "p").rglob("*.png"))) == 3
    code, out, told = convlora("inspect", unet_run, "--json")
    assert code == 0, told
    assert json.loads(out)["model"] == "unet"
    code, _, told = convlora("predict", unet_run, images, "--output", tmp_path / "q", "--model", "tiny")
    assert code == 2
    assert "needs no SAM. Leave out --model." in " ".join(told.split())


def test_several_classes_in_half_precision_at_an_oblong_size(tmp_path):
    town = write_task("town", tmp_path / "town", num_train=4, num_val=2, num_test=2, size=(64, 80))
    config = settings(town, precision="bf16", class_weights=True)
    config.model.image_size = [32, 48]
    metrics = train(config, tmp_path / "run")
    assert 0 <= metrics["test"]["miou"] <= 1
    prediction = Segmenter.from_run(tmp_path / "run", device="cpu").predict(next((town / "test/images").iterdir()))
    assert prediction.probabilities.shape == (5, 64, 80)
    torch.testing.assert_close(torch.from_numpy(prediction.probabilities).sum(dim=0), torch.ones(64, 80))


def test_the_size_is_256_if_none_is_given_and_follows_the_rule_of_a_sam(blobs, tmp_path):
    config = settings(blobs, max_steps=1)
    config.model.image_size = 100
    with pytest.raises(InputError, match="must be divisible by 16"):
        train(config, tmp_path / "run")
    config = settings(blobs, max_steps=1)
    config.model.image_size = None
    train(config, tmp_path / "run")
    assert Segmenter.from_run(tmp_path / "run", device="cpu").image_size == (256, 256)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.source=tiny", "--model tiny has no effect on the method unet"),
        ("head=mask-classification", "model.head=mask-classification has no effect"),
        ("num_mask_tokens=4", "num_mask_tokens=4 has no effect"),
        ("attention=sdpa", "attention=sdpa has no effect"),
        ("detail=half", "--detail half has no effect"),
        ("cache=true", "--cache has no effect"),
        ("activation_checkpointing=true", "activation_checkpointing=true has no effect"),
        ("lr_decoder=1e-3", "lr_decoder=0.001 has no effect"),
        ("set_loss_weights=[1,1,1]", "set_loss_weights=.* has no effect"),
        ("adapt_last=1", "Leave out --adapt-last"),
        ("width=12", "method.width must be one of 8, 16, 32, 64, 128, got 12"),
        ("method.r=3", "no option 'r'"),
    ],
)
def test_settings_without_effect_are_refused(blobs, tmp_path, assignment, message):
    config = settings(blobs)
    config.override([assignment])
    with pytest.raises(InputError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_made_for_a_sam_can_be_used(trained_run, convlora, tmp_path):
    common = ("train", "--config", trained_run / "config.yaml", "--method", "unet", "--max-steps", 1, "--json")
    code, out, told = convlora(*common, "--output", tmp_path / "run")
    assert code == 0, told
    assert json.loads(out)["steps"] == 1
    assert RunConfig.load(tmp_path / "run" / "config.yaml").model.image_size == 64
    code, _, told = convlora(*common, "--output", tmp_path / "other", "--model", "tiny")
    assert code == 2
    assert "--model tiny has no effect" in told


@pytest.mark.parametrize(("key", "value"), [("width", 4096), ("width", 32), ("depth", 9)])
def test_a_run_of_a_stranger_is_not_built_blindly(unet_run, tmp_path, key, value):
    shutil.copytree(unet_run, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["method"][key] = value
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=r"must be one of 8.*from a copy|does not fit the run|no option 'depth'"):
        Segmenter.from_run(tmp_path / "run", device="cpu")


def test_memory_is_tried_without_checkpointing(blobs, tmp_path, monkeypatch):
    tried, free = [], [1e12]

    def trial(*args, checkpointing):
        tried.append(checkpointing)
        return 5e8

    monkeypatch.setattr(memory, "_trial", trial)
    monkeypatch.setattr(memory, "_free_bytes", lambda device: free[0])
    train(settings(blobs, max_steps=1, memory="auto"), tmp_path / "run")
    assert tried == [False]
    free[0] = 1e8
    with pytest.raises(RunError, match=r"needs 0\.5 GB, and 0\.1 GB can be used. Lower --image-size\."):
        train(settings(blobs, max_steps=1, memory="auto"), tmp_path / "other")
