"""Volumes from training to results: what is predicted slice by slice lies where the volume does."""

import json
from shutil import copytree

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from monai.metrics import compute_hausdorff_distance
from PIL import Image

from convlora import Segmenter, evaluate, predict
from convlora.data.reading.volumes.kept import Stored
from convlora.errors import InputError
from convlora.inference.files.volumes import plan_volumes
from convlora.report.finished import scored_samples
from convlora.report.run_files import read_run
from convlora.reporting import Silent
from convlora.serve.served import load_runs
from convlora.sharing.files import shared_files
from convlora.training.config import RunConfig
from convlora.training.folding import fold_images
from convlora.training.run import train
from convlora.training.usable_data import load_data
from tests.data import volumes_on_disk as on_disk

SHAPE = (30, 34, 5)
LOW, HIGH = -160.0, 240.0


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    codes = iter(["RAS", "PIR", "LPS", "SAL"])
    for seed, name in enumerate(("train/{}/a.nii", "train/{}/b.nii.gz", "val/{}/a.nii", "test/{}/a.nii.gz")):
        values, mask = on_disk.spheres(SHAPE, seed)
        code = next(codes)
        on_disk.write_nifti(root / name.format("images"), values, code)
        on_disk.write_nifti(root / name.format("masks"), mask, code)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_config, volumes):
    config: RunConfig = make_config(epochs=2)
    config.update({"data": {"path": str(volumes), "value_range": [LOW, HIGH], "neighbours": True}}, origin="the test")
    folder = tmp_path_factory.mktemp("run") / "run"
    train(config, folder)
    return folder


@pytest.fixture(scope="module")
def segmenter(run):
    return Segmenter.from_run(run)


def shown(values):
    """Slices (slices, height, width, 3) as the model is to see them, made here from the values right, front, up."""
    eight = np.rint((values.clip(LOW, HIGH) - LOW) * (255 / (HIGH - LOW))).astype(np.uint8)
    seen = eight[::-1, ::-1].transpose(2, 1, 0)
    padded = np.concatenate([seen[:1], seen, seen[-1:]])
    return np.stack([padded[:-2], padded[1:-1], padded[2:]], -1)


def test_a_volume_is_predicted_as_its_slices_one_by_one(run, segmenter, volumes, tmp_path):
    path = volumes / "test/images/a.nii.gz"
    result = predict(run, path, tmp_path)
    made, own = nibabel.load(tmp_path / "a.nii.gz"), nibabel.load(path)
    assert np.array_equal(made.affine, own.affine)
    assert made.shape == own.shape
    values = on_disk.spheres(SHAPE, 3)[0]
    one_by_one = np.stack([segmenter.predict(Image.fromarray(one)).semantic_map for one in shown(values)])
    upright = np.asarray(nibabel.as_closest_canonical(made).dataobj)
    assert np.array_equal(upright[::-1, ::-1].transpose(2, 1, 0), one_by_one)
    assert one_by_one.any()
    (image,) = result["images"]
    assert image["size"] == [5, 34, 30]
    assert image["shares"]["foreground"] == pytest.approx(one_by_one.mean())
    assert json.loads((tmp_path / "shares.json").read_text())
    plan_volumes([Stored(path, "nifti", "axial")], tmp_path)  # a result of ours may be replaced
    nibabel.save(own, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="was not made by convlora"):
        plan_volumes([Stored(path, "nifti", "axial")], tmp_path)


def test_volumes_are_scored_as_wholes(convlora, run, volumes, tmp_path):
    code, out, _ = convlora("evaluate", run, volumes, "--output", tmp_path / "scores")
    assert code == 0
    assert "Volumes: 1" in out
    scores = json.loads((tmp_path / "scores/scores.json").read_text())["volumes"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["volumes"] == scores  # as after training
    assert metrics["val"]["volumes"]["num_volumes"] == 1
    page = (run / "report.html").read_text()
    assert "<h2>Volumes</h2>" in page
    assert f"{scores['classes']['foreground']['hd95']:.2f} mm" in page
    for sample in scored_samples(read_run(run)).values():  # whose pictures are on the page
        assert (sample.image.slicing.value_range, sample.image.slicing.neighbours) == ((LOW, HIGH), True)
    shared = json.loads(shared_files(run, "me/run")["metrics.json"])
    assert shared["test"]["volumes"] == {name: value for name, value in scores.items() if name != "each"}
    code, out, _ = convlora("predict", run, volumes / "test/images", "-o", tmp_path / "out")
    assert code == 0
    assert "Segmented 1 volume" in out
    made = np.asarray(nibabel.load(tmp_path / "out/a.nii.gz").dataobj)
    image = nibabel.load(volumes / "test/masks/a.nii.gz")
    mask = np.asarray(image.dataobj)
    (one,) = scores["each"]
    assert (one["volume"], one["slices"], one["unit"]) == ("a", 5, "mm")
    assert one["spacing"] == pytest.approx([3.0, 1.1, 0.8])
    found = one["classes"]["foreground"]
    assert found["dice"] == pytest.approx(2 * (made & mask).sum() / (made.sum() + mask.sum()))
    both = [torch.from_numpy((values == 1)[None, None]) for values in (made, mask)]
    zooms = [float(side) for side in image.header.get_zooms()]
    distance = compute_hausdorff_distance(*both, include_background=True, percentile=95, spacing=zooms)
    assert found["hd95"] == pytest.approx(float(distance), rel=1e-5)
    assert scores["dice"] == found["dice"]


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    """Volumes of three channels, the second of which shows the foreground."""
    root = tmp_path_factory.mktemp("channels")
    for seed, name in enumerate(("train/{}/a.nii", "val/{}/a.nii", "test/{}/a.nii.gz")):
        values, mask = on_disk.spheres(SHAPE, seed)
        noise = np.random.default_rng(seed).normal(0, 30, SHAPE).astype(np.int16)
        on_disk.write_nifti(root / name.format("images"), np.stack([noise, values, noise[::-1]], -1), "PIR")
        on_disk.write_nifti(root / name.format("masks"), mask, "PIR")
    return root


def test_channels_in_windows(make_config, channels, tmp_path):
    """Of volumes whose slices are larger than the windows, without most of those that have no foreground."""
    config, told = make_config(max_steps=2), []
    asked = {"path": str(channels), "window": 24, "bands": [2, 1], "foreground_share": 1.0}
    config.update({"data": asked, "model": {"bands": 2, "image_size": 64}}, origin="the test")
    reporter = Silent()
    reporter.message = told.append
    metrics = train(config, tmp_path / "run", reporter=reporter)
    shown = int(on_disk.spheres(SHAPE, 0)[1].any(axis=(0, 1)).sum())
    assert 0 < shown < SHAPE[2]
    assert any(text.startswith(f"{SHAPE[2] - shown} of {SHAPE[2]} training slices are left out") for text in told)
    assert any(text.startswith(f"An epoch is {4 * shown} windows") for text in told)
    path = channels / "test/images/a.nii.gz"
    predict(tmp_path / "run", path, tmp_path / "out")
    made = nibabel.load(tmp_path / "out/a.nii.gz")
    assert (made.shape, made.header["dim"][0]) == (nibabel.load(path).shape[:3], 3)
    assert np.array_equal(made.affine, nibabel.load(path).affine)
    mask = np.asarray(nibabel.load(channels / "test/masks/a.nii.gz").dataobj)
    own = np.asarray(made.dataobj)
    dice = 2 * (own & mask).sum() / (own.sum() + mask.sum())
    assert metrics["test"]["volumes"]["dice"] == pytest.approx(dice)
    segmenter = Segmenter.from_run(tmp_path / "run")
    values = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)[::-1, ::-1, 2].swapaxes(0, 1)
    upright = np.asarray(nibabel.as_closest_canonical(made).dataobj)[::-1, ::-1, 2].T
    assert np.array_equal(segmenter.predict(values).semantic_map, upright)


@pytest.mark.parametrize("setting", [{"neighbours": True}, {"value_range": [0.0, 1.0]}])
def test_settings_of_single_values_have_no_effect_on_bands(make_config, channels, tmp_path, setting):
    config = make_config()
    config.update({"data": {"path": str(channels), **setting}, "model": {"bands": 3}}, origin="the test")
    with pytest.raises(InputError, match="has no effect on bands"):
        train(config, tmp_path / "run")


def test_a_dicom_series_becomes_a_nifti_file(run, segmenter, tmp_path):
    values = on_disk.spheres(SHAPE, 3)[0]
    slices = values[::-1, ::-1].transpose(2, 1, 0)  # rows to the back, columns to the left
    folder = on_disk.write_dicom(tmp_path / "scan", slices.astype(int) + 1024)
    predict(run, folder, tmp_path / "out")
    made = nibabel.load(tmp_path / "out/scan.nii.gz")
    assert nibabel.aff2axcodes(made.affine) == ("L", "P", "S")
    assert made.header.get_zooms() == pytest.approx((0.75, 1.5, 2.5))
    one_by_one = np.stack([segmenter.predict(Image.fromarray(one)).semantic_map for one in shown(values)])
    assert np.array_equal(np.asarray(made.dataobj).T, one_by_one)


def test_pages_in_pages_out(run, tmp_path):
    own = copytree(run, tmp_path / "run")
    text = (own / "config.yaml").read_text()
    assert "pages: first" in text
    (own / "config.yaml").write_text(text.replace("pages: first", "pages: slices"))
    values = (on_disk.spheres(SHAPE, 3)[0][::-1, ::-1].transpose(2, 1, 0) + 500).clip(0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", values, photometric="minisblack")
    predict(own, tmp_path / "stack.tif", tmp_path / "out")
    made = tifffile.imread(tmp_path / "out/stack.tif")
    assert made.shape == values.shape
    assert made.max() <= 1
    with Image.open(tmp_path / "out/stack.tif") as image:
        assert (image.n_frames, image.mode) == (5, "P")
    plan_volumes([Stored(tmp_path / "stack.tif", "stack", "axial")], tmp_path / "out")  # it may be replaced


def test_the_check_tells_of_volumes(convlora, volumes):
    code, out, _ = convlora("data", "check", volumes)
    assert "Volumes in train: 2 with 5 slices, spacing 3 x 1.1 x 0.8 mm" in out
    assert code == 0


def test_folds_part_no_volume(make_config, volumes):
    config = make_config()
    config.update({"data": {"path": str(volumes), "value_range": [LOW, HIGH], "folds": 3}}, origin="the test")
    folding = fold_images(config, load_data(config, lambda text: None), lambda text: None)
    folds = {}
    for one in folding.images:
        folds.setdefault((one.split, one.sample.image.volume), set()).add(one.fold)
    assert len(folds) == 3
    assert sorted(folds.values(), key=min) == [{0}, {1}, {2}]


@pytest.mark.parametrize("option", [{"overlay": True}, {"tile": True}, {"resume": True}, {"image_url": "https://x/"}])
def test_options_that_are_not_for_volumes(run, volumes, tmp_path, option):
    with pytest.raises(InputError, match="volumes"):
        predict(run, volumes / "test/images", tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


def test_images_are_not_what_such_a_run_was_trained_on(run, segmenter, volumes, blobs, tmp_path, monkeypatch):
    """Their values have no such range, and they have no neighbours. Whoever gives it some is told."""
    monkeypatch.setattr(Segmenter, "load", lambda *arguments, **options: segmenter)
    reporter, told = Silent(), []
    reporter.message = told.append
    predict(run, sorted((blobs / "test/images").iterdir())[:1], tmp_path / "out", reporter=reporter)
    evaluate(run, blobs, reporter=reporter)
    (served,) = load_runs([run])[0].values()
    alone = "results are good for volumes alone"
    assert sum(alone in text for text in told) == 2
    assert alone in served.note
    told.clear()
    evaluate(run, volumes, reporter=reporter)
    assert told == []


def test_a_bad_volume_does_not_stop_the_others(run, volumes, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "bad.nii.gz").write_bytes((volumes / "test/images/a.nii.gz").read_bytes()[:-99])
    (folder / "good.nii.gz").write_bytes((volumes / "test/images/a.nii.gz").read_bytes())
    result = predict(run, folder, tmp_path / "out")
    assert [one["image"] for one in result["images"]] == [str(folder / "good.nii.gz")]
    assert "cut short" in result["failed"][0]["error"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == [
        "good.nii.gz",
        "shares.json",
    ]
    (folder / "photo.png").write_bytes(b"")
    with pytest.raises(InputError, match="separately"):
        predict(run, folder, tmp_path / "out")


@pytest.mark.parametrize(
    "setting",
    [
        {"neighbours": True},
        {"value_range": [0.0, 1.0]},
        {"axis": "coronal"},
        {"pages": "slices"},
        {"foreground_share": 0.5},
    ],
)
def test_settings_of_volumes_have_no_effect_on_images(make_config, tmp_path, setting):
    config = make_config()
    config.update({"data": setting}, origin="the test")
    with pytest.raises(InputError, match="has no effect"):
        train(config, tmp_path / "run")


def test_an_intensity_beside_a_range_has_no_effect(make_config, volumes, tmp_path):
    config = make_config()
    config.update({"data": {"path": str(volumes), "value_range": [0, 1], "intensity": "image"}}, origin="the test")
    with pytest.raises(InputError, match="intensity"):
        train(config, tmp_path / "run")
