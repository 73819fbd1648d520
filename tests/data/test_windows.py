"""Windows that training cuts out of images."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from convlora.data import windows as windows_module
from convlora.data.checking.check import check_data
from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import SampleInputError, SegmentationDataset
from convlora.data.reading import rows
from convlora.data.reading.decoded import Decoded
from convlora.data.reading.mask_rows import WholeMask, open_mask
from convlora.data.reading.tiff.values import TiffValues
from convlora.data.sample import Sample
from convlora.data.sources.opening import open_data
from convlora.data.windows import (
    FOREGROUND_SHARE,
    WindowReader,
    Windows,
    draw_window,
    foreground_places,
    mirrored,
    number_of_windows,
)

BINARY = ClassTable(("background", "thing"))
SEVERAL = ClassTable(("background", "a", "b"))


def pair(seed, size=(70, 90), classes=2):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, classes, size).astype(np.uint8)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), mask


def saved(folder, name, pixels, mask, suffix=".png"):
    for part, values in (("image", pixels), ("mask", mask)):
        path = folder / f"{name}_{part}{suffix}"
        if suffix == ".png":
            Image.fromarray(values).save(path)
        else:
            rasterio = pytest.importorskip("rasterio")
            bands = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
            how = {"tiled": True, "blockxsize": 16, "blockysize": 16, "crs": "EPSG:32633"}
            how["transform"] = rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5200000)
            count, height, width = bands.shape
            with rasterio.open(
                path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, **how
            ) as new:
                new.write(bands)
    return Sample(folder / f"{name}_image{suffix}", folder / f"{name}_mask{suffix}", name)


@pytest.fixture
def samples(tmp_path):
    return [saved(tmp_path, str(seed), *pair(seed, size)) for seed, size in enumerate([(70, 90), (20, 100), (32, 32)])]


def dataset_of(samples, size=(32, 32), seed=3, image_size=None, **more):
    return SegmentationDataset(
        samples, BINARY, image_size or size, "flips", seed, windows=Windows.over(samples, size), **more
    )


def equal(one, other):
    return all(torch.equal(one[key], other[key]) for key in ("pixel_values", "labels", "changes"))


def test_an_epoch_has_as_many_windows_as_tile_the_images(samples):
    dataset = dataset_of(samples)
    assert dataset.windows.counts == (9, 4, 1)
    assert len(dataset) == len(list(dataset)) == 14
    assert [dataset.windows.image_of(index) for index in range(14)] == [0] * 9 + [1] * 4 + [2]
    covered = np.zeros((70, 90), int)
    for top in range(0, 70, 32):
        for left in range(0, 90, 32):
            covered[top : top + 32, left : left + 32] += 1
    assert (covered == 1).all()
    assert number_of_windows((1, 1), (32, 32)) == 1


def test_items_are_pieces_of_the_image_and_its_mask_at_their_own_resolution(samples):
    dataset = SegmentationDataset(samples[:1], BINARY, (32, 32), windows=Windows.over(samples[:1], (32, 32)))
    pixels, mask = pair(0)
    places = set()
    for key in range(40):
        item = dataset[key]
        window, labels = item["pixel_values"].permute(1, 2, 0).numpy(), item["labels"].numpy()
        found = [
            (top, left)
            for top in range(70 - 31)
            for left in range(90 - 31)
            if np.array_equal(pixels[top, left], window[0, 0])
            and np.array_equal(pixels[top : top + 32, left : left + 32], window)
        ]
        ((top, left),) = found
        assert np.array_equal(mask[top : top + 32, left : left + 32], labels)
        places.add((top, left))
    assert len(places) > 35, "other windows in every epoch"


def test_windows_depend_on_seed_epoch_and_index_alone(samples):
    one, other = dataset_of(samples), dataset_of(samples)
    keys = [epoch * 14 + index for epoch in range(2) for index in range(14)]
    backwards = {key: other[key] for key in reversed(keys)}
    assert all(equal(one[key], backwards[key]) for key in keys)
    assert not equal(one[0], one[14]), "another epoch"
    assert not equal(one[0], one[1])
    assert not equal(one[0], dataset_of(samples, seed=4)[0])


def test_small_images_are_continued_by_their_mirror_image(samples):
    item = SegmentationDataset(samples[1:2], BINARY, (32, 32), windows=Windows.over(samples[1:2], (32, 32)))[0]
    window, labels = item["pixel_values"].numpy(), item["labels"].numpy()
    assert np.array_equal(window[:, 20:32], window[:, 19:7:-1])
    assert np.array_equal(labels[20:32], labels[19:7:-1])
    assert mirrored(np.arange(3)[None], (1, 8)).tolist() == [[0, 1, 2, 2, 1, 0, 0, 1]]


def test_windows_may_be_resized(samples):
    item = dataset_of(samples, image_size=(48, 48))[0]
    assert item["pixel_values"].shape == (3, 48, 48)
    assert item["labels"].shape == (48, 48)


def test_tiff_files_are_read_window_by_window_and_give_the_same(tmp_path, samples, monkeypatch):
    pytest.importorskip("rasterio")
    from convlora.data.reading.tiff import mask_rows, rows

    sizes = [(70, 90), (20, 100)]
    tiffs = [saved(tmp_path, f"tiff{seed}", *pair(seed, size), ".tif") for seed, size in enumerate(sizes)]
    expected = [dataset_of(samples[:2])[key] for key in range(26)]

    def refuse(*_):
        raise AssertionError("an image is decoded whole")

    monkeypatch.setattr("convlora.data.reading.rows.read_as", refuse)
    monkeypatch.setattr("convlora.data.reading.mask_rows.read_mask", refuse)
    read, native = [], rows.TiffPieces.native

    def note(self, bands, top, bottom, left=0, right=None):
        read.append((bottom - top, (self.width if right is None else right) - left))
        return native(self, bands, top, bottom, left, right)

    monkeypatch.setattr(rows.TiffPieces, "native", note)
    dataset = dataset_of(tiffs)
    assert all(equal(dataset[key], one) for key, one in enumerate(expected))
    assert len(read) == 26
    assert all(height <= 32 and width <= 32 for height, width in read)
    assert mask_rows.has_plain_indices(tiffs[0].mask)


def test_the_range_of_a_deep_image_is_that_of_all_of_it_and_found_once(tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    rng = np.random.default_rng(0)
    values = rng.integers(0, 300, (70, 90)).astype(np.uint16)
    values[0, 0] = 4095
    sample = saved(tmp_path, "deep", values, pair(0)[1], ".tif")
    calls, find = [], TiffValues.find_scale
    monkeypatch.setattr(TiffValues, "find_scale", lambda self, pieces: (calls.append(1), find(self, pieces)))
    reader = WindowReader(BINARY, (32, 32), "image")
    pieces = [reader.read(sample, 0, np.random.default_rng(seed))[0] for seed in range(8)]
    assert len(calls) == 1
    assert max(np.median(piece) for piece in pieces) <= 19, "300 of 4095, the brightest pixel of the whole image"


def test_masks_that_cannot_be_read_by_pieces_are_read_whole(tmp_path):
    colours = np.zeros((20, 30, 3), np.uint8)
    colours[:, 10:] = (255, 0, 0)
    Image.fromarray(colours).save(tmp_path / "colours.tif")
    with open_mask(tmp_path / "colours.tif") as mask:
        assert isinstance(mask, WholeMask)
        assert np.unique(mask.read(0, 20)).size == 2
        assert np.unique(mask.read(3, 9, 0, 10)).size == 1


def test_a_third_of_the_windows_lies_around_the_foreground():
    mask = np.zeros((1000, 1000), np.uint8)
    mask[500, 700] = 1
    places = foreground_places(WholeMask(mask), BINARY, "mask")
    assert [place.tolist() for place in places] == [[[500, 700]]]
    rng = np.random.default_rng(0)
    drawn = [draw_window((1000, 1000), (50, 60), places, rng) for _ in range(3000)]
    around = [(top, left) for top, left in drawn if (top, left) == (500 - 25, 700 - 30)]
    assert len(around) / 3000 == pytest.approx(FOREGROUND_SHARE, abs=0.03)
    tops, lefts = np.array([one for one in drawn if one not in around]).T
    for starts, last in ((tops, 950), (lefts, 940)):
        assert starts.min() >= 0
        assert starts.max() <= last
        assert np.histogram(starts, 5, (0, last + 1))[0].min() > 330, "anywhere alike"


def test_each_class_of_the_foreground_is_as_likely(monkeypatch):
    mask = np.zeros((60, 60), np.uint8)
    mask[:, 20:] = 1
    mask[3, 4] = 2
    mask[50:, :10] = 255
    monkeypatch.setattr(windows_module, "_BAND", 7 * 60)
    monkeypatch.setattr(windows_module, "_MOST_PLACES", 200)
    first, second = foreground_places(WholeMask(mask), SEVERAL, "mask")
    assert len(first) == 200
    assert all(mask[row, column] == 1 for row, column in first.tolist())
    assert abs(first.mean(axis=0) - [29.5, 39.5]).max() < 4, "from all of the mask alike"
    assert second.tolist() == [[3, 4]]
    again = foreground_places(WholeMask(mask), SEVERAL, "mask")
    assert np.array_equal(again[0], first), "the same in every process"


def test_windows_that_count_nowhere_are_drawn_again(tmp_path):
    pixels, mask = pair(0, (32, 320))
    mask[:, 40:] = 255
    mask[:, :40] = 0
    sample, reader = saved(tmp_path, "ignored", pixels, mask), WindowReader(BINARY, (32, 32))
    counted = [(reader.read(sample, 0, np.random.default_rng(seed))[1] != 255).any() for seed in range(100)]
    alone = 40 / 289  # of the places of a window, those where it reaches something
    assert np.mean(counted) == pytest.approx(1 - (1 - alone) ** 4, abs=0.12)


def test_what_is_wrong_with_a_file_is_said_of_it(tmp_path):
    pixels, mask = pair(0)
    other = saved(tmp_path, "other", pixels[:60], mask)
    with pytest.raises(SampleInputError, match="is 90x70 pixels"):
        dataset_of([other])[0]
    mask[:] = 7
    with pytest.raises(SampleInputError, match="holds the value 7"):
        dataset_of([saved(tmp_path, "seven", pixels, mask)])[0]


def _with_mask(source, mask):
    first, second = source.splits["train"]
    return replace(source, splits={"train": [first, replace(second, mask=mask)]})


def test_images_that_cannot_be_decoded_whole_pass_the_check_and_are_cut(tmp_path, monkeypatch):
    """With a smaller limit in place of Pillow's, which no test could reach."""
    pytest.importorskip("rasterio")
    for part in ("images", "masks"):
        (tmp_path / "train" / part).mkdir(parents=True)
    samples = []
    for seed in range(2):
        sample = saved(tmp_path, str(seed), *pair(seed), ".tif")
        sample.image.rename(tmp_path / "train" / "images" / f"{seed}.tif")
        sample.mask.rename(tmp_path / "train" / "masks" / f"{seed}.tif")
    source = open_data(str(tmp_path))
    expected = check_data(source, full=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for full in (True, False):
        refused = check_data(source, full=full).errors
        assert [problem.kind for problem in refused if "--window" in problem.message] == ["unreadable"] * 2
    found = check_data(source, full=True, in_windows=None)
    assert found.errors == []
    (told,) = (problem for problem in found.warnings if problem.kind == "only-windows")
    first = source.splits["train"][0].image
    assert f"2 of 2 images are too large to be decoded whole (the first is {first} with 90x70 pixels)" in told.message
    assert "--window" in told.message
    mask = source.splits["train"][1].mask
    png = mask.with_suffix(".png")
    Image.fromarray(pair(1)[1]).save(png)  # which no window can be read of
    (problem,) = check_data(_with_mask(source, png), full=True, in_windows=None).errors
    assert (problem.kind, problem.path) == ("unreadable", str(source.splits["train"][1].image))
    assert png.name in problem.message
    png.unlink()
    for full in (True, False):
        found = check_data(source, full=full, in_windows=True)
        assert found.errors == []
        assert found.classes == expected.classes
        assert list(found.values.values()) == list(expected.values.values())
    samples = source.splits["train"]
    windows = Windows.over(samples, (32, 32))
    assert windows.counts == (9, 9)
    assert len(list(SegmentationDataset(samples, found.classes, (32, 32), windows=windows))) == 18


def test_images_stay_decoded_between_windows(samples, monkeypatch):
    windows = Windows.over(samples, (32, 32))
    alone = (SegmentationDataset(samples, BINARY, (32, 32), windows=windows) for _ in range(18))
    expected = [dataset[key] for key, dataset in enumerate(alone)]
    counted = []
    decode = rows.read_as
    monkeypatch.setattr(rows, "read_as", lambda *given: counted.append(given) or decode(*given))
    dataset = SegmentationDataset(samples, BINARY, (32, 32), windows=windows)
    found = [dataset[key] for key in range(18)]
    assert len(counted) == len(samples)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one["pixel_values"], other["pixel_values"])
        assert torch.equal(one["labels"], other["labels"])
        one["pixel_values"].zero_()  # which must not reach what is kept
        one["labels"].zero_()
    assert all(torch.equal(dataset[key]["labels"], expected[key]["labels"]) for key in range(3))


def test_what_is_kept_decoded_is_bounded():
    masks = {key: WholeMask(np.full((10, 10), key, np.int64)) for key in range(4)}
    kept, opened = Decoded(most=250), []

    @contextmanager
    def opening(key):
        opened.append(key)
        yield masks[key]

    for key in (0, 1, 0, 2, 0, 1):  # a hundred bytes each once their values are packed; 1 is used least when 2 comes
        with kept.opened(key, opening(key)) as mask:
            assert (mask.read(0, 10) == key).all()
    assert opened == [0, 1, 2, 1]
    none = Decoded(most=99)
    for _ in range(2):
        with none.opened(3, opening(3)):
            pass
    assert opened[4:] == [3, 3]


def test_windows_of_images_that_cannot_all_be_kept_come_in_pools():
    windows = Windows((8, 8), counts=(3,) * 20, decoded=(10,) * 20)
    order = windows.order(np.random.default_rng(0), most=60)
    assert sorted(order.tolist()) == list(range(60))
    images = np.array([windows.image_of(int(index)) for index in order])
    spans = [np.flatnonzero(images == image) for image in range(20)]
    pools = np.array([place for place in range(1, 60) if not set(images[:place]) & set(images[place:])])
    assert np.diff([0, *pools, 60]).max() <= 6 * 3, "the images of a pool can be kept"
    assert np.diff([0, *pools, 60]).min() >= 4 * 3
    assert max(np.ptp(span) for span in spans) > 2, "in a pool windows of images are mixed"
    again = windows.order(np.random.default_rng(1), most=60)
    assert [windows.image_of(int(index)) for index in again] != images.tolist()
    at_random = np.random.default_rng(0).permutation(60)
    for most in (200, 30):
        whole = windows.order(np.random.default_rng(0), most)
        assert np.array_equal(whole, at_random), "all fit, or too few to mix"
    from_tiff = Windows((8, 8), counts=(3,) * 20, decoded=(0,) * 20)
    assert np.array_equal(from_tiff.order(np.random.default_rng(0), most=1), at_random)
    assert len(Windows((8, 8), counts=()).order(np.random.default_rng(0))) == 0
