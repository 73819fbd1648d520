"""Large masks take little more memory than they have values."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import SampleInputError, read_sample
from convlora.data.reading import mask_values
from convlora.data.reading.colours import colour_value
from convlora.data.reading.images import read_mask
from convlora.data.reading.mask_values import count_values, whole_numbers
from convlora.data.sample import Sample
from convlora.prepare import masks
from tests.data.images_on_disk import save

PIXELS = 1000 * 1000
TWO = ClassTable(("background", "crack"), label_map=((colour_value((0, 0, 0)), 0), (colour_value((255, 0, 0)), 1)))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(mask_values, "PIECE", 10_000)


def peak(work):
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1] / PIXELS, result
    finally:
        tracemalloc.stop()


def test_a_mask_in_colour_takes_four_bytes_per_pixel(tmp_path):
    colours = np.zeros((1000, 1000, 3), np.uint8)
    colours[300:, 5:900, 0] = 255
    path = save(tmp_path / "a.png", colours)
    taken, mask = peak(lambda: read_mask(path))
    assert taken < 5
    taken, labels = peak(lambda: TWO.encode(mask, "a.png"))
    assert taken < 1.5
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, colours[..., 0] // 255)
    taken, counts = peak(lambda: count_values(mask, 9))
    assert taken < 0.5
    assert sorted(counts.values()) == sorted(np.unique(labels, return_counts=True)[1].tolist())


def test_more_than_255_classes_take_four_bytes():
    classes = ClassTable(tuple(map(str, range(300))), 65535)
    mask = (np.arange(PIXELS) % 300).astype(np.uint16).reshape(1000, 1000)
    taken, labels = peak(lambda: classes.encode(mask, ""))
    assert taken < 5
    assert np.array_equal(labels, mask)


def test_whole_numbers_take_four_bytes():
    taken, numbers = peak(lambda: whole_numbers(np.full((1000, 1000), 7.0), "a.tif"))
    assert taken - 8 < 5, "beside the values themselves"
    assert (numbers == 7).all()


@pytest.mark.parametrize("kind", ["binary", "means"])
def test_masks_of_published_data_take_few_bytes(monkeypatch, kind):
    """Three channels widened to 64 bits would take 24."""
    means = np.zeros((1000, 1000, 3), np.uint8)
    means[:500] = 200
    monkeypatch.setattr(masks, "read_image", lambda source: Image.fromarray(means))
    entry = type("Entry", (), {"masks": kind, "means": (0, 200), "classes": ("a", "b")})
    taken, content = peak(lambda: masks.convert_mask("a.png", entry))
    assert taken < 9, "3 of the image, 2 of the sums, 1 of the mask, and copies of it"
    (tmp := Image.open(__import__("io").BytesIO(content))).load()
    assert np.unique(np.asarray(tmp)).tolist() == ([0, 255] if kind == "binary" else [0, 1])


def test_sizes_are_compared_before_a_mask_is_decoded(tmp_path, monkeypatch):
    image = save(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
    mask = save(tmp_path / "b.png", np.zeros((1000, 1000), np.uint8))
    monkeypatch.setattr(Image.Image, "load", lambda *args: pytest.fail("decoded"))
    with pytest.raises(SampleInputError, match=r"b\.png is 1000x1000 pixels .*a\.png is 9x9"):
        read_sample(Sample(image, mask, "a"), ClassTable(("a", "b")), size=(8, 8))


def test_what_cannot_fit_into_memory_is_not_begun(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", np.zeros((9, 9), np.uint8))
    monkeypatch.setattr("convlora.data.reading.images._MANY", 80)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 600}))
    with pytest.raises(SampleInputError, match=r"a\.png does not fit into memory"):
        read_sample(Sample(path, path, "a"), ClassTable(("a", "b")))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 700}))
    read_sample(Sample(path, path, "a"), ClassTable(("a", "b")))
