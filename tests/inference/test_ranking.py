"""`predict --rank uncertain`: which images are most worth labelling first."""

import csv
import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy.stats import entropy

from convlora.data.reading.images import read_image
from convlora.inference.bands import MOST, Wanted, uncertainty
from convlora.inference.files.extras import Extras
from convlora.inference.files.jobs import run_jobs
from convlora.inference.files.of_all import write_files_of_all
from convlora.inference.files.plan import plan
from convlora.inference.uncertain import SHARE, Levels
from convlora.inference.windows import Tiles
from tests.inference.local_model import RADIUS, local_segmenter, noise
from tests.inference.test_no_data import EMPTY, write

MODES = pytest.mark.parametrize("tiles", [None, Tiles()], ids=["whole", "tiles"])
RANK = Extras(rank="uncertain")


def known_segmenter():
    """A model whose logit at a pixel is 0 where it is grey and grows with its brightness on either side."""
    segmenter = local_segmenter("binary")
    model = segmenter.model.requires_grad_(False)
    model.convolution.weight.zero_()
    model.convolution.bias.zero_()
    model.convolution.weight[0, 0, RADIUS, RADIUS] = 4.0  # of the red channel, normalised: black is -2.1, white 2.2
    return segmenter


GREY = 124  # the mean red of ImageNet


def save(path, pixels):
    Image.fromarray(np.repeat(np.asarray(pixels, np.uint8)[..., None], 3, axis=2)).save(path)


def rank(segmenter, images, output, tiles=None, extras=RANK):
    jobs = plan(images, output, False, tiled=tiles is not None, extras=extras)
    results = list(run_jobs(segmenter, jobs, tiles=tiles, extras=extras))
    written = write_files_of_all(output, segmenter.classes, [job.mask.stem for job in jobs], [], extras, results)
    return results, written


def table(output):
    with (output / "ranking.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- the measure ----


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_entropy_is_that_of_scipy(channels):
    probabilities = np.random.default_rng(0).dirichlet(np.full(max(2, channels), 0.3), (5, 6)).transpose(2, 0, 1)
    probabilities[:, 0, 0] = np.eye(max(2, channels))[1]  # certain
    probabilities[:, 0, 1] = 1 / max(2, channels)
    given = probabilities[1:] if channels == 1 else probabilities
    found = uncertainty(torch.from_numpy(given).float()).numpy()
    assert np.allclose(found, entropy(probabilities, base=max(2, channels), axis=0), atol=1e-6)
    assert found[0, 0] == 0
    assert found[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("pixels", [1, 4, 5, 999, 12345])
def test_the_mean_of_the_most_uncertain_tenth_is_exact(pixels):
    values = np.random.default_rng(pixels).integers(0, MOST + 1, pixels, dtype=np.uint16)
    values[::3] = values[0]  # many alike
    levels = Levels()
    for band in np.array_split(values, 3):
        levels.add(band[None])
    found, number = levels.summary(), max(1, round(SHARE * pixels))
    assert found.uncertainty == pytest.approx(np.sort(values)[::-1][:number].mean() / MOST, abs=1e-12)
    assert found.mean_uncertainty == pytest.approx(values.mean() / MOST, abs=1e-12)


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("kind", ["binary", "per-pixel", "mask-classification"])
def test_each_pixel_has_the_entropy_of_its_probabilities(kind, tta):
    segmenter = local_segmenter(kind)
    segmenter.model.requires_grad_(False)
    segmenter.tta = tta
    image = Image.fromarray(noise(40, 50))
    seen = segmenter.see(image)
    ((output, index),) = segmenter.outputs([seen.pixels])
    answer = segmenter.answer_of(output, index, seen.size, Wanted(uncertainty=True))
    probabilities = segmenter.predict(image).probabilities
    expected = entropy(probabilities, base=len(probabilities), axis=0)
    assert np.abs(answer.uncertainty / MOST - expected).max() < 1e-4
    assert np.array_equal(answer.semantic_map, segmenter.predict(image).semantic_map)


# ---- the order ----


@MODES
def test_the_order_is_known(tmp_path, tiles):
    segmenter = known_segmenter()
    small_object = np.full((80, 80), 255)
    small_object[10:36, 20:46] = GREY  # a tenth of the pixels, as uncertain as can be
    save(tmp_path / "small_object.png", small_object)
    for name, brightness in {"sure": 0, "grey": GREY, "a_little": 170}.items():
        save(tmp_path / f"{name}.png", np.full((80, 80), brightness))
    images = [tmp_path / f"{name}.png" for name in ("a_little", "grey", "small_object", "sure")]
    results, written = rank(segmenter, images, tmp_path / "out", tiles)
    lines = table(tmp_path / "out")
    order = ["grey.png", "small_object.png", "a_little.png", "sure.png"]
    assert [line["image"] for line in lines] == order
    assert [line["rank"] for line in lines] == ["1", "2", "3", "4"]
    assert written["most_uncertain"] == [str(tmp_path / name) for name in order]
    means = {line["image"]: float(line["mean_uncertainty"]) for line in lines}
    assert means["a_little.png"] > means["small_object.png"], "the mean over all pixels would drown the object"
    by_image = {result["image"]: result for result in results}
    for line in lines:
        result = by_image[str(tmp_path / line["image"])]
        assert float(line["uncertainty"]) == pytest.approx(result["uncertainty"], abs=1e-6)


@MODES
def test_pixels_without_data_do_not_count(tmp_path, tiles):
    segmenter = known_segmenter()
    write(tmp_path / "half.tif", "alpha")
    (half,), _ = rank(segmenter, [tmp_path / "half.tif"], tmp_path / "out", tiles)
    seen = read_image(tmp_path / "half.tif")
    if tiles is None:
        foreground = segmenter.predict(seen).probabilities[1]
    else:  # at its own size, a pixel's answer is that of its red alone
        foreground = 1 / (1 + np.exp(-4 * (np.asarray(seen)[..., 0] / 255 - 0.485) / 0.229))
    expected = entropy([foreground, 1 - foreground], base=2, axis=0)[:, ~EMPTY]
    assert half["mean_uncertainty"] == pytest.approx(expected.mean(), abs=1e-4)
    blank = np.dstack([np.full((40, 50, 3), GREY, np.uint8), np.zeros((40, 50), np.uint8)])
    tifffile.imwrite(tmp_path / "blank.tif", blank, photometric="rgb", extrasamples=["unassalpha"])
    (none,), _ = rank(segmenter, [tmp_path / "blank.tif"], tmp_path / "out", tiles)
    assert none["uncertainty"] is None
    last = table(tmp_path / "out")[-1]
    assert (last["image"], last["uncertainty"], last["mean_uncertainty"]) == ("blank.tif", "", "")


# ---- the table ----


def test_images_of_an_earlier_prediction_stay_and_are_ranked_with_the_others(tmp_path):
    for name, brightness in {"a": 0, "b": 150, "c": GREY}.items():
        save(tmp_path / f"{name}.png", np.full((40, 40), brightness))
    rank(known_segmenter(), [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")
    _, written = rank(known_segmenter(), [tmp_path / "c.png"], tmp_path / "out")
    assert [line["image"] for line in table(tmp_path / "out")] == ["c.png", "b.png", "a.png"]
    assert written["most_uncertain"] == [str(tmp_path / "c.png")]
    save(tmp_path / "b.png", np.zeros((40, 40)))
    rank(known_segmenter(), [tmp_path / "b.png"], tmp_path / "out")
    assert [line["image"] for line in table(tmp_path / "out")] == ["c.png", "a.png", "b.png"]


def test_the_command_an_interruption_and_what_is_refused(convlora, trained_run, blobs, tmp_path):
    images = sorted((blobs / "train" / "images").iterdir())[:3]
    folder, output = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for path in images:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / images[1].name).write_bytes(b"no image")
    arguments = ["predict", trained_run, folder, "--output", output, "--device", "cpu", "--rank", "uncertain", "--json"]
    code, out, _ = convlora(*arguments)
    assert code == 1
    assert [line["rank"] for line in table(output)] == ["1", "2"]
    (folder / images[1].name).write_bytes(images[1].read_bytes())
    code, out, told = convlora(*arguments, "--resume")
    assert code == 0, told
    assert "2 of 3 images were done before" in told
    found = json.loads(out)
    lines = table(output)
    assert {line["image"] for line in lines} == {path.name for path in images}
    assert [str(folder / line["image"]) for line in lines] == found["most_uncertain"]
    assert found["ranking"] == str(output / "ranking.csv")
    scores = {one["image"]: one["uncertainty"] for one in found["images"]}
    assert [scores[image] for image in found["most_uncertain"]] == sorted(scores.values(), reverse=True)
    again = tmp_path / "again"
    code, _, _ = convlora("predict", trained_run, folder, "--output", again, "--device", "cpu", "--rank", "uncertain")
    assert code == 0
    assert (again / "ranking.csv").read_bytes() == (output / "ranking.csv").read_bytes()
    code, _, told = convlora("predict", trained_run, folder, "--output", again, "--rank", "certain")
    assert code == 2
    assert "--rank must be uncertain, got 'certain'" in " ".join(told.split())
    (again / "ranking.csv").write_text("my own\n")
    code, _, told = convlora("predict", trained_run, folder, "--output", again, "--rank", "uncertain")
    assert code == 2
    assert "was not made by convlora" in " ".join(told.split())
    assert (again / "ranking.csv").read_text() == "my own\n"
