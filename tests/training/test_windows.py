"""Runs that are trained on windows: what they see, how they are scored, and what they predict."""

import json
import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import convlora as package
from convlora.api.predict import tiles_of
from convlora.comparison.plan import PlannedRun, make_plan
from convlora.data.sources.opening import open_data
from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.exporting.metadata import Facts, metadata
from convlora.inference.scoring import passes_over, score_samples
from convlora.inference.segmenter import Segmenter
from convlora.inference.windows import Grid, Tiles
from convlora.metrics import BinaryScores
from convlora.reporting import Silent
from convlora.runs.reading import read_settings
from convlora.serve.engine import Engine
from convlora.serve.images import Upload, see
from convlora.serve.limits import Limits
from convlora.training.config import RunConfig
from convlora.training.run import Interrupted, train
from convlora.training.validation import check_settings
from tests.helpers.interrupt_at import InterruptAt
from tests.inference.local_model import local_segmenter, noise

WINDOW = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of three windows by two; one of the test images is smaller than a window."""
    folder = tmp_path_factory.mktemp("windows") / "data"
    write_task("cells", folder, num_train=2, num_val=2, num_test=2, size=(60, 90))
    for part in ("images", "masks"):
        path = next((folder / "test" / part).glob("test_001.*"))
        with Image.open(path) as whole:
            whole.crop((20, 20, 45, 40)).save(path)
    return folder


def settings(data, **training):
    config = RunConfig()
    training = {"epochs": 2, "batch_size": 2, "grad_accum": 1, "device": "cpu", "warmup_steps": 0} | training
    sections = {
        "data": {"path": str(data), "window": WINDOW},
        "method": {"name": "unet", "width": 8},
        "training": training,
    }
    config.update(sections, origin="the test")
    return config


class Heard(Silent):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def heard():
    return Heard()


@pytest.fixture(scope="module")
def run(data, heard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows") / "run"
    train(settings(data), folder, reporter=heard)
    return folder


def test_an_epoch_is_as_long_as_the_images_have_windows(run, heard, data):
    metrics = json.loads((run / "metrics.json").read_text())
    sizes = [Image.open(path).size for path in (data / "train" / "images").iterdir()]
    count = sum(math.ceil(width / WINDOW) * math.ceil(height / WINDOW) for width, height in sizes)
    assert (metrics["steps"], metrics["epochs"]) == (2 * math.ceil(count / 2), 2)
    assert f"An epoch is {count} windows of 32 x 32 pixels: as many as cover the 2 training images once." in heard.said
    assert any("Windows of 32 pixels can reach an IoU of" in text for text in heard.said)
    saved = read_settings(run)
    assert (saved["model"]["image_size"], saved["data"]["window"]) == (WINDOW, WINDOW)
    assert "Windows of 32 pixels at the images' own resolution." in (run / "adapter" / "README.md").read_text()
    assert "of 32 pixels of the images, at their own resolution" in (run / "report.html").read_text()


def test_scores_are_those_of_predict_tile_pixel_for_pixel(run, data, tmp_path, monkeypatch):
    """What is scored against what `predict --tile` writes, and the score against a plain count."""
    scored, update = [], BinaryScores.update

    def note(self, probabilities, labels):
        scored.append((probabilities, labels))
        return update(self, probabilities, labels)

    monkeypatch.setattr(BinaryScores, "update", note)
    result = package.evaluate(run, data)
    package.predict(run, data / "test" / "images", tmp_path / "tiled", tile=True, tile_size=WINDOW)
    package.predict(run, data / "test" / "images", tmp_path / "out")
    segmenter, ious = Segmenter.from_run(run), []
    paths = sorted((data / "test" / "images").iterdir())
    for path, (probabilities, labels) in zip(paths, scored, strict=True):
        found = np.asarray(Image.open(tmp_path / "out" / f"{path.stem}.png"))
        assert np.array_equal(found, np.asarray(Image.open(tmp_path / "tiled" / f"{path.stem}.png")))
        assert np.array_equal(found, probabilities > 0.5)
        prediction = segmenter.predict(path)
        assert np.array_equal(prediction.semantic_map, found)
        assert np.array_equal(prediction.probabilities[1], probabilities)
        assert np.array_equal(segmenter.predict_maps([path])[0], found)
        assert np.array_equal(segmenter.predict_tiled(path), found)
        truth = np.asarray(Image.open(data / "test" / "masks" / f"{path.stem}.png")) > 0
        assert np.array_equal(truth, labels == 1)
        ious.append((truth & (found == 1)).sum() / (truth | (found == 1)).sum())
    assert result["iou"] == pytest.approx(np.mean(ious))
    assert json.loads((run / "metrics.json").read_text())["test"]["iou"] == pytest.approx(np.mean(ious))


def test_a_small_image_keeps_its_scale(run, data):
    segmenter = Segmenter.from_run(run)
    path = data / "test" / "images" / "test_001.png"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    whole = np.pad(pixels, ((0, 12), (0, 7), (0, 0)), mode="symmetric")
    assert np.array_equal(segmenter.predict_tiled(pixels), segmenter.predict_tiled(whole)[:20, :25])
    assert len(Grid.over((20, 25), (32, 32), 0.25, mirrored=True)) == 1


@pytest.mark.parametrize("kind", ["per-pixel", "mask-classification"])
def test_several_classes_are_scored_as_they_are_predicted(kind, tmp_path):
    segmenter = local_segmenter(kind)
    (tmp_path / "test" / "images").mkdir(parents=True)
    (tmp_path / "test" / "masks").mkdir()
    rng, right, union = np.random.default_rng(0), np.zeros(3), np.zeros(3)
    for name, size in (("a", (70, 83)), ("b", (20, 50))):
        pixels, mask = noise(*size), rng.integers(0, 3, size).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "test" / "images" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "test" / "masks" / f"{name}.png")
        found = segmenter.predict_tiled(pixels)
        right += [((found == kind) & (mask == kind)).sum() for kind in range(3)]
        union += [((found == kind) | (mask == kind)).sum() for kind in range(3)]
    samples, seen = open_data(str(tmp_path)).split("test"), []
    how = {"image_size": (32, 32), "batch_size": 3, "tiles": Tiles(32)}
    scores = score_samples(segmenter.model, samples, segmenter.classes, progress=seen.append, **how)
    assert scores.compute()["miou"] == pytest.approx((right / union).mean())
    assert seen == [1, 1]
    segmenter.model.calls.clear()
    score_samples(segmenter.model, samples, segmenter.classes, **how)
    assert len(segmenter.model.calls) == passes_over(samples, Tiles(32), (32, 32), 3)


def test_interrupted_and_resumed_equals_uninterrupted(run, data, tmp_path):
    with pytest.raises(Interrupted):
        train(settings(data), tmp_path / "run", reporter=InterruptAt(8))
    train(settings(data), tmp_path / "run", resume=True)
    one, two = (load_file(place / "adapter" / "adapter_model.safetensors") for place in (run, tmp_path / "run"))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_a_run_cannot_go_on_with_other_windows(run, data, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    other = settings(data)
    other.data.window = 48
    with pytest.raises(InputError, match=re.escape("cannot be resumed with data.window = 48 instead of 32")):
        train(other, tmp_path / "run", resume=True)


def test_readers_in_other_processes_cut_the_same_windows(run, data, tmp_path):
    config = settings(data, max_steps=6)
    config.data.workers = 2
    train(config, tmp_path / "run")
    first = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()[:5]]
    second = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()[:5]]
    assert first[0] == second[0], "the learning rate falls otherwise in a shorter run"


def test_serving_answers_as_predicting(run, data):
    segmenter, path = Segmenter.from_run(run), data / "test" / "images" / "test_000.png"
    engine = Engine({"run": segmenter}, batch_size=3)
    image = see(Upload(path.read_bytes()), segmenter, Limits())
    answer, expected = engine.submit("run", image, wants_levels=True).result(30), segmenter.predict(path)
    engine.close()
    assert np.array_equal(answer.semantic_map, expected.semantic_map)
    assert np.array_equal(answer.levels, (np.ceil(expected.probabilities[1] * 256) - 1).clip(0, 255))


def test_what_has_no_effect_or_cannot_be_is_refused(data, run, tmp_path):
    config = RunConfig()
    config.override(["window=64", "cache=true", "adapt_last=1"])
    with pytest.raises(InputError, match="--cache has no effect with --window: windows are drawn anew"):
        check_settings(config)
    other = settings(data)
    other.data.window = 40
    words = r"divisible by 16, got 40 x 40.*It is that of --window; give another --window"
    with pytest.raises(InputError, match=words):
        train(other, tmp_path / "run")
    other.data.window = 8
    with pytest.raises(InputError, match="--window must be at least 16 and at most 8192, got 8"):
        check_settings(other)
    with pytest.raises(InputError, match=re.escape("data.window must be a whole number or null")):
        other.override(["window=few"])
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    text = (damaged / "config.yaml").read_text()
    (damaged / "config.yaml").write_text(text.replace("window: 32", "window: 100000"))
    with pytest.raises(InputError, match=re.escape("data.window=100000 cannot be")):
        Segmenter.from_run(damaged)


def test_tiles_of_a_run():
    assert tiles_of(False, None, None) is None
    assert tiles_of(False, None, None, 64) == Tiles(64, mirrored=True) == tiles_of(True, None, None, 64)
    assert tiles_of(False, 100, 0.5, 64) == Tiles(100, 0.5, mirrored=True)
    assert repr(Tiles(64, mirrored=True)) == repr(Tiles(64)), "else predictions of before could not be resumed"


def test_all_methods_of_a_comparison_see_the_same_windows():
    base = RunConfig()
    base.override(["window=96", "model.source=tiny"])
    plan = make_plan(("unet", "lora"), 1, (1.0,), (), base)
    configs = [PlannedRun(variant, 1.0, None, 0).config(plan.base) for variant in plan.variants]
    assert [(one.data.window, one.model.image_size) for one in configs] == [(96, 96), (96, 96)]


def test_an_exported_file_says_what_its_windows_are():
    segmenter = SimpleNamespace(classes=local_segmenter().classes)
    facts = Facts(segmenter.classes, (64, 64), "unet", "fp32", 10.0, 0.25, window=32)
    found = metadata(facts)
    assert (json.loads(found["window"]), json.loads(found["resolution"])) == (32, 5.0)
    assert "window" not in metadata(Facts(segmenter.classes, (64, 64), "unet", "fp32", 10.0, 0.25))
