import json

import numpy as np
import pytest
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError
from convlora.inference.files.jobs import picture, run_jobs
from convlora.inference.files.plan import Job
from convlora.inference.segmenter import Segmenter
from convlora.models import SamForSemanticSegmentation

COLOURS = ((10, 20, 30), (200, 0, 0), (0, 0, 200))


@pytest.fixture(scope="module")
def make(tiny_sam_folder):
    def segmenter(head="mask-classification", names=("sky", "road", "car"), colors=COLOURS):
        model = SamForSemanticSegmentation.from_pretrained(tiny_sam_folder, num_classes=len(names), head=head)
        return Segmenter(model, ClassTable(names, 1000, colors=colors), (64, 64))

    return segmenter


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / "photos" / f"{name}.png" for name in "ab"]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(path)
    return paths


def jobs(photos, folder):
    return [Job(photo, folder / photo.name, folder / f"{photo.stem}_overlay.png") for photo in photos]


@pytest.mark.parametrize("head", ["mask-classification", "per-pixel"])
def test_maps_alone_are_those_of_the_probabilities(make, photos, head):
    segmenter = make(head)
    maps = segmenter.predict_maps(photos)
    for one, prediction in zip(maps, segmenter.predict_batch(photos), strict=True):
        assert one.shape == (50, 70)
        assert one.dtype == np.uint8
        assert np.array_equal(one, prediction.semantic_map)


def test_results_keep_the_colours_of_the_classes(make, photos, tmp_path):
    segmenter = make()
    results = list(run_jobs(segmenter, jobs(photos, tmp_path / "out")))
    expected = segmenter.predict(photos[0]).semantic_map
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert np.array_equal(np.asarray(image), expected)
        assert np.array_equal(np.asarray(image.convert("RGB")), np.array(COLOURS, np.uint8)[expected])
    with Image.open(tmp_path / "out" / "a_overlay.png") as drawn:
        assert drawn.width >= 70
        assert drawn.height > 50, "the legend stands below"
    stored = json.loads((tmp_path / "out" / "shares.json").read_text())
    assert stored["classes"] == ["sky", "road", "car"]
    assert stored["colors"] == [list(colour) for colour in COLOURS]
    assert stored["images"] == {"a": results[0]["shares"], "b": results[1]["shares"]}
    assert stored["images"]["a"]["road"] == pytest.approx((expected == 1).mean())


def test_shares_of_earlier_images_are_kept_and_foreign_files_too(make, photos, tmp_path):
    segmenter, folder = make(), tmp_path / "out"
    for photo in photos:
        list(run_jobs(segmenter, jobs([photo], folder)))
    assert set(json.loads((folder / "shares.json").read_text())["images"]) == {"a", "b"}
    (folder / "shares.json").write_text('{"software": "another"}')
    with pytest.raises(InputError, match=r"shares\.json exists and was not made by convlora"):
        list(run_jobs(segmenter, jobs(photos, folder)))
    assert (folder / "shares.json").read_text() == '{"software": "another"}'


def test_more_than_256_classes(make, photos, tmp_path):
    names = tuple(f"class {number}" for number in range(300))
    segmenter = make("per-pixel", names, None)
    segmenter.model.mask_decoder.mask_tokens.weight.data[299] *= 50  # whatever it says, it has to survive
    list(run_jobs(segmenter, jobs(photos, tmp_path / "out")))
    expected = segmenter.predict_maps(photos[:1])[0]
    assert expected.dtype == np.uint16
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), expected)


def test_only_the_background_stays_untinted():
    photo = Image.new("RGB", (60, 40), (90, 90, 90))
    flat = np.zeros((40, 60), dtype=np.uint8)
    with_background = picture(photo, flat, ClassTable(("background", "b", "c")))
    assert with_background.size == photo.size, "nothing is there to be named"
    assert np.array_equal(np.asarray(with_background), np.asarray(photo))
    without = picture(photo, flat, ClassTable(("sky", "b", "c")))
    assert without.height > photo.height
    assert (np.asarray(without)[:40, :60] != 90).any(axis=-1).all()


def test_ignored_pixels_are_neither_drawn_nor_counted():
    photo = Image.new("RGB", (200, 40), (90, 90, 90))
    labels = np.zeros((40, 200), dtype=np.uint8)
    labels[:, 100:] = 255
    drawn = np.asarray(picture(photo, labels, ClassTable(("sky", "b", "c"))))
    assert (drawn[:40, 102:] == 90).all()
    assert (drawn[:40, :98] != 90).any(axis=-1).all()
