"""`data.val_fraction=0`: all images are trained on, and the weights of the last epoch are kept."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from convlora import Segmenter
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from convlora.reporting import Silent
from convlora.training.folder import last_checkpoint
from convlora.training.run import Interrupted, train
from tests.helpers.interrupt_at import InterruptAt


class Told(Silent):
    def __init__(self):
        self.text = []

    def message(self, text):
        self.text.append(text)


@pytest.fixture
def make_whole(make_config, blobs, tmp_path):
    shutil.copytree(blobs / "train", tmp_path / "data" / "train")
    shutil.copy(blobs / "classes.json", tmp_path / "data")

    def make(**training):
        config = make_config(**training)
        config.data.path, config.data.val_fraction = str(tmp_path / "data"), 0.0
        return config

    return make


def test_all_images_are_trained_on_and_the_last_weights_kept(make_whole, convlora, tmp_path):
    told = Told()
    metrics = train(make_whole(), tmp_path / "run", reporter=told)
    assert "All 6 samples are trained on, and none is held out to tell the best epoch." in told.text
    assert (metrics["steps"], metrics["best_epoch"]) == (6, 2)
    assert "val" not in metrics
    assert "test" not in metrics
    samples = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert (len(samples["train"]), samples["val"]) == (6, [])
    kept = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    last = load_file(last_checkpoint(tmp_path / "run") / "adapter_model.safetensors")
    assert kept.keys() == last.keys()
    assert all(torch.equal(kept[name], last[name]) for name in kept)
    card = (tmp_path / "run" / "adapter" / "README.md").read_text()
    assert "All images were trained on; these are the weights of the last epoch." in card
    assert "Scores" not in card
    Segmenter.from_run(tmp_path / "run", device="cpu")
    code, _, _ = convlora("inspect", tmp_path / "run")
    assert code == 0

    with pytest.raises(Interrupted):
        train(make_whole(), tmp_path / "resumed", reporter=InterruptAt(4))
    train(make_whole(), tmp_path / "resumed", resume=True)
    resumed = load_file(tmp_path / "resumed" / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(kept[name], resumed[name]) for name in kept)


def test_the_command_has_no_scores_to_show(make_whole, convlora, tmp_path):
    make_whole(max_steps=1).save(tmp_path / "c.yaml")
    code, out, _ = convlora("train", "--config", tmp_path / "c.yaml", "--output", tmp_path / "run")
    assert code == 0
    assert "There are no scores, because all images were trained on." in out


def test_what_has_no_effect_then(make_whole, blobs, tmp_path):
    for setting in ("training.patience=3", "data.split_seed=4"):
        config = make_whole()
        config.override([setting])
        with pytest.raises(InputError, match=f"{setting} has no effect with data.val_fraction=0"):
            train(config, tmp_path / "run")
    config = make_whole()
    config.data.path = str(blobs)
    with pytest.raises(InputError, match=r"data\.val_fraction=0\.0 has no effect on data with a validation split"):
        train(config, tmp_path / "run")
    with pytest.raises(InputError, match=re.escape(f"trains on everything, but {blobs} has a val split.")):
        open_data(blobs).train_val(0, 0.0)
