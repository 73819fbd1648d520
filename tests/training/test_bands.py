"""Runs on bands, from training to a file that is exported."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import load_file

from convlora import Segmenter, check_data, evaluate, predict
from convlora.errors import InputError
from convlora.exporting.metadata import Facts, metadata
from convlora.exporting.program import network_of
from convlora.serve.served import load_runs
from convlora.training.bands import config_reading, measure_bands, settle_bands
from convlora.training.config import RunConfig
from convlora.training.run import Interrupted, train
from convlora.training.validation import check_settings
from tests.helpers.interrupt_at import InterruptAt
from tests.helpers.models import tiny_sam

SIDE = 32


def make_data(root, bands, informative, kind="tif", images=(("train", 6), ("val", 2), ("test", 3))):
    """Bands of noise, in one of which the foreground shows."""
    rng = np.random.default_rng(0)
    for split, count in images:
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            y, x = rng.integers(0, SIDE // 2, 2)
            mask[y : y + 14, x : x + 14] = 1
            values = rng.normal(2000, 200, (bands, SIDE, SIDE))
            values[informative] += 2500.0 * mask
            place = root / split / "images" / f"{split}{number}"
            if kind == "tif":
                tifffile.imwrite(f"{place}.tif", values.astype("u2"), photometric="minisblack", planarconfig="separate")
            else:
                np.save(place.with_suffix(".npy"), values.astype("f4"))
            Image.fromarray(mask * 255).save(root / split / "masks" / f"{split}{number}.png")
    return root


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam")
    tiny_sam(SIDE).save_pretrained(folder)
    return folder


def settings(data, sam, steps=60, picked=None, model=None, **more):
    config = RunConfig()
    config.update(
        {
            "data": {"path": str(data), "bands": picked},
            "model": {"source": str(sam), "image_size": SIDE, "bands": model, "detail": more.pop("detail", "half")},
            "method": more.pop("method", {"name": "conv-lora"}),
            "training": {"max_steps": steps, "batch_size": 2, "device": "cpu", "lr": 3e-3, "ema": 0.0, **more},
        },
        origin="the test",
    )
    return config


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {
        count: make_data(root / str(count), count, count - 2, kind)
        for count, kind in ((4, "npy"), (5, "tif"), (12, "tif"))
    }


@pytest.fixture(scope="module")
def run(data, sam, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "five"
    train(settings(data[5], sam, model=5), folder)
    return folder


def iou(run):
    return json.loads((run / "metrics.json").read_text())["test"]["iou"]


def test_a_run_learns_what_one_band_alone_shows(run, data, sam, tmp_path):
    assert iou(run) > 0.6
    train(settings(data[5], sam, picked=[1, 2, 3]), tmp_path / "three")  # without the fourth
    assert iou(tmp_path / "three") < 0.5


@pytest.mark.slow
def test_three_bands_learn_it_if_it_is_one_of_them(data, sam, tmp_path):
    train(settings(data[5], sam, picked=[4, 2, 3], steps=60), tmp_path / "other")
    assert iou(tmp_path / "other") > 0.8
    assert not any(
        "new_bands" in name for name in load_file(tmp_path / "other" / "adapter" / "adapter_model.safetensors")
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 12])
def test_other_numbers_of_bands(data, sam, tmp_path, count):
    picked = None if count == 4 else [12, 1, 11, 2, 3]
    metrics = train(settings(data[count], sam, steps=60, model=4 if count == 4 else 5, picked=picked), tmp_path / "run")
    assert metrics["test"]["iou"] > 0.8
    segmenter = Segmenter.from_run(tmp_path / "run")
    image = next((data[count] / "test" / "images").iterdir())
    assert segmenter.predict(image).overlay().size == (SIDE, SIDE)


@pytest.mark.slow
def test_the_patch_embedding_alone_learns_it(data, sam, tmp_path):
    metrics = train(settings(data[5], sam, model=5, detail="none", steps=80), tmp_path / "run")
    assert metrics["test"]["iou"] > 0.6
    weights = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    new = next(value for name, value in weights.items() if "new_bands" in name)
    assert new.shape[1] == 2
    assert new.abs().max() > 0
    assert not any(name.endswith("projection.weight") for name in weights)


def test_everything_made_of_a_run_reads_alike(run, data, tmp_path):
    segmenter = Segmenter.from_run(run, precision="fp32")
    image = data[5] / "test" / "images" / "test0.tif"
    expected = segmenter.predict(image)
    values = tifffile.imread(image)
    for same in (values, np.moveaxis(values, 0, -1), torch.from_numpy(values.astype("f4")), image.read_bytes()):
        assert np.array_equal(segmenter.predict(same).probabilities, expected.probabilities)
    np.save(tmp_path / "same.npy", values)
    assert np.array_equal(segmenter.predict(tmp_path / "same.npy").probabilities, expected.probabilities)
    assert np.array_equal(segmenter.predict_tiled(image), expected.semantic_map)
    made = predict(run, [image, tmp_path / "same.npy"], tmp_path / "out", overlay=True, device="cpu")
    assert not made["failed"]
    for result in made["images"]:
        assert np.array_equal(np.asarray(Image.open(result["mask"])), expected.semantic_map)
        assert Image.open(result["overlay"]).mode == "RGB"
    predict(run, [image], tmp_path / "tiled", tile=True, tile_size=16, overlay=True, device="cpu")
    assert evaluate(run, data[5], device="cpu")["iou"] == pytest.approx(iou(run), abs=1e-4)
    network = network_of(segmenter.model, segmenter.image_size, "fp32", segmenter.intensity)
    facts = Facts(segmenter.classes, segmenter.image_size, "conv-lora", "fp32", None, 0.25, reading=segmenter.intensity)
    told = {key: json.loads(value) for key, value in metadata(facts).items()}
    assert told["bands"] == [1, 2, 3, 4, 5]
    assert told["input"].startswith("bands from 0 to 1, (B, 5,")
    low, high = np.array(told["band_range"]).T[..., None, None]
    with torch.no_grad():
        exported = network(torch.from_numpy(((values - low) / (high - low)).clip(0, 1)[None].astype("f4")))[0]
    assert np.abs(exported.numpy() - expected.probabilities).max() < 0.02  # without the rounding to bytes


def test_images_with_other_bands_are_refused(run, data, sam, tmp_path):
    three = tmp_path / "three.png"
    Image.new("RGB", (SIDE, SIDE)).save(three)
    segmenter = Segmenter.from_run(run)
    with pytest.raises(InputError, match=r"three\.png has 3 bands, but 5 .*images with as many bands"):
        segmenter.predict(three)
    failed = predict(run, [three], tmp_path / "out", device="cpu")["failed"]
    assert "three.png has 3 bands" in failed[0]["error"]
    with pytest.raises(InputError, match=r"has 12 bands, but 5"):
        evaluate(run, data[12], device="cpu")
    with pytest.raises(InputError, match=r"has 5 bands, but 4 .*model\.bands"):
        train(settings(data[5], sam, model=4), tmp_path / "run")
    with pytest.raises(InputError, match=r"train0\.tif has 5 bands, but band 7"):
        train(settings(data[5], sam, picked=[7, 1, 2]), tmp_path / "run")
    with pytest.raises(InputError, match=r"NumPy file.*model\.bands"):
        train(settings(data[4], sam), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_statistics_are_those_of_the_training_pixels(data, run):
    config = RunConfig.load(run / "config.yaml")
    values = np.stack([tifffile.imread(path) for path in sorted((data[5] / "train" / "images").iterdir())]).astype(
        float
    )
    for band in range(5):
        own = values[:, band].ravel()
        low, high = config.data.band_range[band]
        assert low == pytest.approx(np.percentile(own, 0.1), rel=1e-6)
        assert high == pytest.approx(np.percentile(own, 99.9), rel=1e-6)
        assert config.data.band_mean[band] == pytest.approx(own.clip(low, high).mean(), rel=1e-6)
        assert config.data.band_std[band] == pytest.approx(own.clip(low, high).std(), rel=1e-6)
    assert {"data.band_range", "data.band_mean", "data.band_std"} <= config.settled
    config.update({"data": {"bands": [1, 2, 3, 5, 4]}})
    assert config.data.band_range is None  # of other bands


def test_pixels_without_data_count_in_no_statistics(tmp_path, sam):
    root = make_data(tmp_path / "data", 4, 0, images=(("train", 2), ("test", 1)))
    known = []
    for path in sorted((root / "train" / "images").iterdir()):
        values = tifffile.imread(path)
        values[:, :10] = 0
        tifffile.imwrite(
            path, values, planarconfig="separate", photometric="minisblack", extratags=[(42113, 2, 2, "0", True)]
        )
        known.append(values[:, 10:].reshape(4, -1))
    from convlora.data.sources.opening import open_data

    config = settings(root, sam, model=4)
    facts = measure_bands(open_data(str(root)).splits["train"], config_reading(config))
    for band, (low, high) in enumerate(facts.ranges):
        own = np.concatenate([values[band] for values in known]).astype(float)
        assert facts.mean[band] == pytest.approx(own.clip(low, high).mean(), rel=1e-6)
        assert low > 1000
    given = settings(root, sam, model=4)
    given.update({"data": {"band_range": [[0, 8000]] * 4, "band_mean": [1, 2, 3, 4]}})
    settle_bands(given, open_data(str(root)).splits["train"], lambda text: None)
    assert (given.data.band_range, given.data.band_mean) == ([[0, 8000]] * 4, [1, 2, 3, 4])
    assert len(given.data.band_std) == 4


def test_a_resumed_run_is_the_run(data, sam, tmp_path):
    train(settings(data[5], sam, model=5, steps=4), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(settings(data[5], sam, model=5, steps=4), tmp_path / "run", reporter=InterruptAt(2))
    train(settings(data[5], sam, model=5, steps=4), tmp_path / "run", resume=True)
    files = (tmp_path / name / "adapter" / "adapter_model.safetensors" for name in ("whole", "run"))
    whole, resumed = map(load_file, files)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_other_ways_of_training(data, sam, tmp_path):
    unet = settings(data[5], "unet", model=5, method={"name": "unet", "width": 8}, steps=2)
    unet.model.source, unet.model.detail = RunConfig().model.source, "auto"
    train(unet, tmp_path / "unet")
    assert Segmenter.from_run(tmp_path / "unet").predict(np.zeros((5, SIDE, SIDE), "u2")).semantic_map.shape == (
        SIDE,
        SIDE,
    )
    half = settings(data[5], sam, model=5, steps=2, precision="bf16", adapt_last=1, memory="auto")
    half.data.augmentation = "strong"
    train(half, tmp_path / "half")
    with pytest.raises(InputError, match=r"--cache .*model\.bands above 3"):
        train(settings(data[5], sam, model=5, steps=2, adapt_last=1, cache=True), tmp_path / "cache")
    train(settings(data[5], sam, picked=[4, 2, 3], steps=2, adapt_last=1, cache=True), tmp_path / "three")
    train(settings(data[5], sam, picked=[4], model=1, steps=2), tmp_path / "grey")
    facts = {
        name: served.facts["bands"] for name, served in load_runs([tmp_path / "three", tmp_path / "half"])[0].items()
    }
    assert facts == {"three": [4, 2, 3], "half": [1, 2, 3, 4, 5]}
    card = (tmp_path / "half" / "adapter" / "README.md").read_text()
    assert "Input: 5 bands" in card


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data": {"band_mean": [1.0]}}, "data.band_mean=.* has no effect without model.bands"),
        ({"data": {"band_range": [[0, 1]]}}, "data.band_range=.* has no effect"),
        ({"data": {"intensity": "image"}, "model": {"bands": 4}}, "data.intensity=image has no effect"),
        ({"data": {"bands": [1, 2]}}, r"model\.bands=2"),
        ({"data": {"bands": [1, 2, 3]}, "model": {"bands": 4}}, "Make them agree"),
        ({"data": {"bands": [0, 1, 2]}}, "counted from 1"),
        ({"model": {"bands": 2000}}, r"model\.bands must be"),
        ({"data": {"band_range": [[1, 1]]}, "model": {"bands": 1}}, "below the second"),
    ],
)
def test_settings_that_cannot_be(values, words):
    with pytest.raises(InputError, match=words):
        checked(values)


def checked(values):
    config = RunConfig()
    config.update(values)
    check_settings(config)


def test_bands_are_written_as_on_a_command_line():
    config = RunConfig()
    config.override(["data.bands=[4,3,2]"])
    assert config.data.bands == [4, 3, 2]
    config.override(["data.bands=8,4,3"])
    assert config.data.bands == [8, 4, 3]
    config.override(["data.bands=5"])
    assert config.data.bands == [5]


def test_damaged_settings_of_a_run_are_refused(run, tmp_path):
    text = (run / "config.yaml").read_text()
    for old, new in (("bands: 5", "bands: x"), ("bands: 5", "bands: 4"), ("band_mean:\n", "band_mean:\n  - .nan\n")):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "config.yaml").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=r"config\.yaml is damaged"):
            Segmenter.from_run(folder)


def test_a_check_tells_the_bands(data, tmp_path):
    report = check_data(data[5])
    assert report["bands"] == [5]
    assert any("model.bands" in problem["message"] for problem in report["problems"])
    report = check_data(data[4])
    assert (report["ok"], report["bands"]) == (True, [4])
    assert any("model.bands=4" in problem["message"] for problem in report["problems"])


def test_ranges_of_files_too_large_to_be_decoded_whole(tmp_path, monkeypatch):
    """Their pixels are sampled by rasterio, and their windows are read."""
    pytest.importorskip("rasterio")
    from convlora.data.checking.check import check_data as check
    from convlora.data.reading.bands import BandReading
    from convlora.data.sample import Sample
    from convlora.data.sources.opening import open_data

    values = np.random.default_rng(0).integers(0, 4000, (64, 80, 5)).astype(np.uint16)
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    image = tmp_path / "train" / "images" / "a.tif"
    tifffile.imwrite(image, values, planarconfig="contig", photometric="minisblack", tile=(16, 16))
    tifffile.imwrite(tmp_path / "train" / "masks" / "a.tif", (values[..., 4] > 2000).astype(np.uint8))
    reading = BandReading(None, 5)
    expected = measure_bands([Sample(image, None, "a")], reading)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert measure_bands([Sample(image, None, "a")], reading) == expected
    report = check(open_data(tmp_path), full=True, intensity=reading, in_windows=True)
    assert not report.errors
