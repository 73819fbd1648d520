import io
import os
import re
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from convlora import Prediction, Segmenter
from convlora.data.checking.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from convlora.inference.scoring import score_samples
from convlora.metrics import BinaryScores, TrivialBaselines
from convlora.models import SamForSemanticSegmentation


@pytest.fixture(scope="module")
def segmenter(trained_run):
    return Segmenter.from_run(trained_run, device="cpu")


@pytest.fixture(scope="module")
def photo(blobs):
    return sorted((blobs / "test" / "images").iterdir())[0]


def test_prediction_has_the_images_own_size(segmenter, photo):
    width, height = Image.open(photo).size
    prediction = segmenter.predict(photo)
    assert isinstance(prediction, Prediction)
    assert prediction.semantic_map.shape == (height, width)
    assert prediction.semantic_map.dtype == np.uint8
    assert prediction.probabilities.shape == (2, height, width)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-6)
    assert np.array_equal(prediction.semantic_map, prediction.probabilities.argmax(axis=0))


def test_any_kind_of_image_gives_the_same(segmenter, photo):
    image = Image.open(photo).convert("RGB")
    expected = segmenter.predict(photo)
    pixels = np.asarray(image)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    content = photo.read_bytes()
    at_its_end = io.BytesIO()
    image.save(at_its_end, format="PNG")
    for other in (str(photo), image, pixels, tensor, content, bytearray(content), io.BytesIO(content), at_its_end):
        assert np.array_equal(segmenter.predict(other).probabilities, expected.probabilities)
    grey = segmenter.predict(np.zeros((40, 30), np.uint8))
    assert grey.semantic_map.shape == (40, 30)
    deep = segmenter.predict(np.full((40, 30), 65535, np.uint16))
    white = segmenter.predict(np.full((40, 30, 3), 255, np.uint8))
    assert np.array_equal(deep.probabilities, white.probabilities)


@pytest.mark.parametrize("array", [np.zeros((3, 4, 5, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4))])
def test_other_arrays_are_refused(segmenter, array):
    with pytest.raises(InputError, match=re.escape(str(array.shape))):
        segmenter.predict(array)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ([np.zeros((4, 4), np.uint8)], "is of the type list. Give several images to predict_batch."),
        (None, "this is of the type NoneType."),
        (7, "An image must be a path, the bytes of an image file or a file open for reading them, a PIL image"),
        (io.StringIO("x"), "open for reading text. Open it for reading bytes"),
        (torch.zeros(3, 8, 8), "must be (3, H, W) or (H, W) of uint8, but this is (3, 8, 8) of torch.float32"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), "but this is (8, 8, 3)"),
        (np.zeros((0, 4), np.uint8), "this is (0, 4)"),
        (b"", "The image given"),
        (b"no image", "The image given"),
    ],
)
def test_what_is_no_image_is_told_what_is(segmenter, image, words):
    for predict in (segmenter.predict, segmenter.predict_tiled, lambda image: segmenter.predict_maps([image])):
        with pytest.raises(InputError, match=re.escape(words)):
            predict(image)


def test_tiles_of_any_kind_of_image(segmenter, photo):
    expected, content = segmenter.predict_tiled(photo), photo.read_bytes()
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    for other in (content, io.BytesIO(content), torch.from_numpy(pixels.copy()).permute(2, 0, 1)):
        assert np.array_equal(segmenter.predict_tiled(other), expected)


def test_nothing_is_made_of_nothing(segmenter):
    assert segmenter.predict_batch([]) == []
    assert segmenter.predict_maps([]) == []


def test_one_image_is_no_batch(segmenter, photo):
    """The letters of its path would be taken for paths, and its rows for images."""
    with photo.open("rb") as file, Image.open(photo) as opened:
        for one in (str(photo), photo, photo.read_bytes(), file, opened, np.asarray(opened)):
            for predict in (segmenter.predict_batch, segmenter.predict_maps):
                with pytest.raises(InputError, match="this is one"):
                    predict(one)
        greys = np.stack([np.asarray(opened.convert("L"))] * 3)
    assert len(segmenter.predict_maps(greys)) == 3


@pytest.mark.parametrize("buffering", [0, -1])
def test_an_image_that_comes_through_a_pipe(segmenter, photo, buffering):
    reading, writing = os.pipe()
    content = photo.read_bytes()
    with os.fdopen(reading, "rb", buffering) as file:
        writer = threading.Thread(target=lambda: (os.write(writing, content), os.close(writing)), daemon=True)
        writer.start()
        found = segmenter.predict(file).semantic_map
        writer.join()
    assert np.array_equal(found, segmenter.predict(content).semantic_map)


def test_a_batch_of_several_sizes_equals_one_at_a_time(segmenter, blobs):
    photos = sorted((blobs / "test" / "images").iterdir())
    for photo, prediction in zip(photos, segmenter.predict_batch(photos)):
        alone = segmenter.predict(photo)
        np.testing.assert_allclose(prediction.probabilities, alone.probabilities, atol=1e-5)


def test_it_is_the_trained_model(segmenter, photo, tiny_sam_folder, trained_run):
    base = SamForSemanticSegmentation.from_pretrained(tiny_sam_folder)
    untrained = Segmenter(base, segmenter.classes, segmenter.image_size)
    difference = np.abs(untrained.predict(photo).probabilities - segmenter.predict(photo).probabilities)
    assert difference.max() > 0.01


def test_scores_equal_those_of_the_predictions(segmenter, blobs):
    source = open_data(blobs)
    classes = check_data(source, full=False).classes
    samples = source.split("test")
    trivial = TrivialBaselines(classes.ignore_index)
    scored = score_samples(
        segmenter.model, samples, classes, image_size=segmenter.image_size, batch_size=2, trivial=trivial
    ).compute()
    expected = BinaryScores(classes.ignore_index)
    for sample in samples:
        _, labels = read_sample(sample, classes)
        expected.update(segmenter.predict(sample.image).probabilities[1], labels)
    for name, value in expected.compute().items():
        assert scored[name] == pytest.approx(value, abs=1e-4), name
    assert trivial.compute()["all_background"]["iou"] == 0


def test_scoring_leaves_mode_and_generator_alone(segmenter, blobs):
    source = open_data(blobs)
    classes = check_data(source, full=False).classes
    state = torch.get_rng_state()
    segmenter.model.train()
    try:
        score_samples(segmenter.model, source.split("test"), classes, image_size=segmenter.image_size, structure=False)
        assert segmenter.model.training
    finally:
        segmenter.model.eval()
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision(trained_run, photo, segmenter):
    half = Segmenter.from_run(trained_run, device="cpu", precision="bf16")
    assert np.abs(half.predict(photo).probabilities - segmenter.predict(photo).probabilities).max() < 0.1


def test_folders_that_are_no_run(tmp_path, trained_run):
    with pytest.raises(InputError, match=r"no config\.yaml"):
        Segmenter.from_run(tmp_path)
    shutil.copytree(trained_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    with pytest.raises(InputError, match="resume=True"):
        Segmenter.from_run(tmp_path / "run")


def test_a_moved_model_is_named_with_its_new_place(tmp_path, trained_run, tiny_sam_folder):
    shutil.copytree(trained_run, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace(str(tiny_sam_folder), "/gone/sam"))
    with pytest.raises(InputError, match="with model"):
        Segmenter.from_run(tmp_path / "run")
    assert Segmenter.from_run(tmp_path / "run", model=tiny_sam_folder).classes.names == ("background", "cell")


def test_another_sam_does_not_fit(tmp_path, trained_run, tiny_sam_folder):
    from tests.helpers.models import tiny_sam

    tiny_sam(hidden_size=48).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"does not fit the run.*with model"):
        Segmenter.from_run(trained_run, model=tmp_path / "other")
    for wrong in ("other", "nothing"):  # the right one is named, not the one that was given
        with pytest.raises(InputError, match=re.escape(f"was trained from '{tiny_sam_folder}'")):
            Segmenter.from_run(trained_run, model=tmp_path / wrong)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"device": "gpu"}, "'gpu' is no device"),
        ({"device": "mps"}, "mps.*PyTorch finds no GPU"),
        ({"device": "cuda:99"}, 'device="cuda:99"'),
        ({"precision": "float16"}, "'float16' is no precision"),
        ({"precision": "int8"}, "'int8' is no precision"),
        ({"device": "cpu", "precision": "fp16"}, "fp16.* needs a GPU"),
    ],
)
def test_a_device_or_precision_that_there_is_not_is_no_other_one(trained_run, given, words):
    if given.get("device") == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU of the kind mps, which is asked for here as one that is missing")
    with pytest.raises(InputError, match=words):
        Segmenter.from_run(trained_run, **given)


def test_devices_by_pytorchs_names_and_objects(trained_run):
    for device in ("cpu", "cpu:0", torch.device("cpu")):
        assert Segmenter.from_run(trained_run, device=device).device == torch.device("cpu")


def test_a_segmenter_of_ones_own_knows_its_precisions_too(trained_run):
    there = Segmenter.from_run(trained_run, device="cpu")
    assert Segmenter(there.model, there.classes, there.image_size, precision="auto").precision == "fp32"
    with pytest.raises(InputError, match="'half' is no precision"):
        Segmenter(there.model, there.classes, there.image_size, precision="half")
