"""Answers averaged over the flips of an image."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from convlora.data.sources.opening import open_data
from convlora.inference.flips import mean_logit
from convlora.inference.scoring import score_samples
from convlora.inference.segmenter import Segmenter
from tests.inference.local_model import local_segmenter, noise

KINDS = ["binary", "per-pixel", "mask-classification"]
FLIPS = [(), (1,), (0,), (0, 1)]  # axes of an image (H, W, 3)


def segmenter_of(kind):
    segmenter = local_segmenter(kind)
    segmenter.model.requires_grad_(False)
    return segmenter


def equivariant(kind):
    """A segmenter that answers to a flipped image by its flipped answer."""
    segmenter = segmenter_of(kind)
    kernel = segmenter.model.convolution.weight.data
    kernel.copy_(sum(kernel.flip(dims) for dims in ((), (-1,), (-2,), (-2, -1))) / 4)
    return segmenter


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (45, 70)])
def test_who_answers_alike_to_flips_answers_the_same(kind, size):
    segmenter, image = equivariant(kind), noise(*size)
    plain, tiled = segmenter.predict(image), segmenter.predict_tiled(image)
    segmenter.tta = True
    flipped = segmenter.predict(image)
    np.testing.assert_allclose(flipped.probabilities, plain.probabilities, rtol=1e-4, atol=1e-6)
    assert np.array_equal(flipped.semantic_map, plain.semantic_map)
    assert np.array_equal(segmenter.predict_maps([image])[0], plain.semantic_map)
    assert (segmenter.predict_tiled(image) != tiled).mean() < 1e-3  # rounding, where two classes weigh the same


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_mean_of_the_scores(kind):
    """Of a binary task and of classes per pixel the probabilities; of mask classification before they are normalised.

    The image has the model's size, so that flipping it and resizing it are the same in any order.
    """
    segmenter, image = segmenter_of(kind), noise(32, 32)
    scores = []
    for axes in FLIPS:
        pixels = torch.from_numpy(np.flip(image, axes).copy()).permute(2, 0, 1)[None]
        output = segmenter.forward(pixels)
        maps = output.foreground if kind == "binary" else output.mask_logits
        if kind == "binary":
            score = torch.cat([1 - maps[0].sigmoid(), maps[0].sigmoid()])
        elif kind == "per-pixel":
            score = maps[0].softmax(dim=0)
        else:
            score = torch.einsum("nk,nhw->khw", output.class_logits[0].softmax(dim=-1)[:, :-1], maps[0].sigmoid())
        scores.append(np.flip(score.detach().numpy(), [axis + 1 for axis in axes]))
    mean = sum(scores) / 4
    plain = segmenter.predict(image).probabilities
    segmenter.tta = True
    found = segmenter.predict(image)
    np.testing.assert_allclose(found.probabilities, mean / mean.sum(axis=0), rtol=1e-4, atol=1e-6)
    assert np.abs(found.probabilities - plain).max() > 1e-2, "or nothing would have been seen"
    assert np.array_equal(segmenter.predict_tiled(image), found.semantic_map)
    assert np.array_equal(segmenter.predict(image[:, ::-1].copy()).semantic_map, found.semantic_map[:, ::-1])


def test_probabilities_near_one_are_told_apart():
    logits = torch.tensor([-60.0, -3.0, 0.0, 25.0, 60.0])
    torch.testing.assert_close(mean_logit([logits] * 4), logits, rtol=1e-6, atol=1e-6)
    one, other = torch.tensor([2.0]), torch.tensor([-1.0])
    expected = torch.logit((one.sigmoid() + other.sigmoid()) / 2)
    torch.testing.assert_close(mean_logit([one, other]), expected)


@pytest.fixture(scope="module")
def expected(trained_run, blobs):
    """The scores of the test images that follow from predictions with flips."""
    segmenter = Segmenter.from_run(trained_run, device="cpu", tta=True)
    ious = []
    for sample in open_data(blobs).split("test"):
        truth = np.asarray(Image.open(sample.mask)) > 0
        found = segmenter.predict(sample.image).semantic_map == 1
        ious.append((found & truth).sum() / max(1, (found | truth).sum()))
    return float(np.mean(ious))


def test_scores_with_flips(trained_run, blobs, expected):
    segmenter = Segmenter.from_run(trained_run, device="cpu")
    samples = open_data(blobs).split("test")
    how = {"image_size": segmenter.image_size, "structure": False, "batch_size": 2}
    scores = [
        score_samples(segmenter.model, samples, segmenter.classes, tta=tta, **how).compute()["iou"]
        for tta in (False, True)
    ]
    assert scores[1] == pytest.approx(expected, abs=1e-6)
    assert scores[0] != scores[1]


def test_the_commands(convlora, trained_run, blobs, tmp_path, expected):
    code, out, _ = convlora("evaluate", trained_run, blobs, "--tta", "--json", "--device", "cpu")
    assert code == 0
    assert json.loads(out)["tta"] is True
    assert json.loads(out)["iou"] == pytest.approx(expected, abs=1e-6)
    images = blobs / "test" / "images"
    masks = []
    for name, more in (("plain", []), ("flips", ["--tta"]), ("windows", ["--tta", "--tile"])):
        code, _, _ = convlora("predict", trained_run, images, "--output", tmp_path / name, *more, "--device", "cpu")
        assert code == 0
        masks.append([np.asarray(Image.open(path)) for path in sorted((tmp_path / name).glob("*.png"))])
    segmenter = Segmenter.from_run(trained_run, device="cpu", tta=True)
    paths = sorted(images.iterdir())
    expected_maps = [[segmenter.predict(path).semantic_map for path in paths], [*map(segmenter.predict_tiled, paths)]]
    for found, expected_map in zip(masks[1] + masks[2], expected_maps[0] + expected_maps[1], strict=True):
        assert np.array_equal(found, expected_map)
    assert any((one != other).any() for one, other in zip(masks[0], masks[1]))


def test_what_was_predicted_without_flips_is_no_part_of_a_prediction_with_them(
    convlora, trained_run, blobs, tmp_path, monkeypatch
):
    monkeypatch.setattr("convlora.inference.files.resuming.DoneList.forget", lambda self: None)
    command = ["predict", trained_run, blobs / "test" / "images", "--output", tmp_path / "out", "--device", "cpu"]
    assert convlora(*command)[0] == 0
    assert "were done before" not in convlora(*command, "--resume", "--tta")[2]
    assert "3 of 3 images were done before" in convlora(*command, "--resume", "--tta")[2]
