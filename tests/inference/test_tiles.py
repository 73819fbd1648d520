"""Images in windows against the same images seen at once."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from convlora.data.reading.rows import WholeImage
from convlora.inference.blending import blend
from convlora.inference.tiles import _window_scores, predict_bands
from convlora.inference.windows import Grid, Tiles
from tests.inference.local_model import local_segmenter, noise, seen_whole

KINDS = ["binary", "per-pixel", "mask-classification"]
# Of a window of 32 pixels: smaller, equal, one pixel more, two windows, many, oblong, and shorter on one side.
SIZES = [(32, 32), (33, 32), (32, 33), (33, 33), (57, 56), (121, 87), (35, 143), (20, 90), (90, 5), (1, 70)]


def blended(segmenter, pixels, tiles, batch_size=1):
    """The scores of the image, put together, and how often each pixel was handed out."""
    source = WholeImage(Image.fromarray(pixels))
    grid = Grid.over(pixels.shape[:2], tiles.window(segmenter.image_size), tiles.overlap)
    result, times = None, np.zeros(pixels.shape[:2], int)
    for rows, columns, scores in blend(grid, _window_scores(segmenter, source, grid, batch_size, None)):
        if result is None:
            result = torch.full((len(scores), *pixels.shape[:2]), torch.nan)
        result[:, rows, columns] = scores
        times[rows, columns] += 1
    return result, times


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_scores_equal_those_of_the_whole_image_at_every_pixel(kind, size):
    segmenter, pixels = local_segmenter(kind), noise(*size)
    expected = seen_whole(segmenter, pixels, (32, 32))
    scores, times = blended(segmenter, pixels, Tiles())
    assert (times == 1).all()
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.6, 0.8])
def test_any_overlap_that_exceeds_what_a_pixel_sees(overlap):
    segmenter, pixels = local_segmenter("mask-classification"), noise(61, 45)
    scores, _ = blended(segmenter, pixels, Tiles(overlap=overlap))
    torch.testing.assert_close(scores, seen_whole(segmenter, pixels, (32, 32)), rtol=1e-5, atol=1e-5)


def test_without_overlap_there_are_seams_and_only_there():
    segmenter, pixels = local_segmenter(), noise(64, 64)
    scores, _ = blended(segmenter, pixels, Tiles(overlap=0))
    differs = (scores - seen_whole(segmenter, pixels, (32, 32))).abs()[0] > 1e-4
    near = np.zeros((64, 64), bool)
    near[30:34] = near[:, 30:34] = True
    assert differs.any()
    assert not differs.numpy()[~near].any()


@pytest.mark.parametrize("kind", KINDS)
def test_classes_equal_those_of_the_whole_image(kind):
    segmenter, pixels = local_segmenter(kind), noise(110, 95)
    scores = seen_whole(segmenter, pixels, (32, 32))
    expected = (scores[0] > 0).long() if kind == "binary" else scores.argmax(dim=0)
    assert np.array_equal(segmenter.predict_tiled(pixels), expected.numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (20, 31), (7, 32)])
def test_an_image_that_fits_into_a_window_gives_exactly_what_it_gives_whole(kind, size):
    segmenter, pixels = local_segmenter(kind), noise(*size)
    assert np.array_equal(segmenter.predict_tiled(pixels), segmenter.predict_maps([pixels])[0])
    assert segmenter.model.calls == [1, 1]


def test_windows_of_another_size_than_the_models_are_resized():
    segmenter, pixels = local_segmenter(), noise(60, 60)
    assert np.array_equal(segmenter.predict_tiled(pixels, tile_size=60), segmenter.predict_maps([pixels])[0])
    assert segmenter.predict_tiled(pixels, tile_size=47).shape == (60, 60)
    assert len(segmenter.model.calls) == 2 + 4


def test_batches_of_windows_change_nothing():
    segmenter, pixels = local_segmenter("mask-classification"), noise(70, 100)
    expected, _ = blended(segmenter, pixels, Tiles())
    segmenter.model.calls.clear()
    scores, _ = blended(segmenter, pixels, Tiles(), batch_size=4)
    assert segmenter.model.calls == [4, 4, 4]
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def test_oblong_models():
    segmenter, pixels = local_segmenter(window=(32, 48)), noise(80, 100)
    scores, _ = blended(segmenter, pixels, Tiles())
    torch.testing.assert_close(scores, seen_whole(segmenter, pixels, (32, 48)), rtol=1e-5, atol=1e-5)


class Endless:
    """An image made up while it is read, which remembers what it was asked for."""

    reference = None
    channels = 3

    def __init__(self, height, width):
        self.height, self.width = height, width
        self.asked = []

    def read(self, top, bottom):
        self.asked.append((top, bottom))
        return noise(bottom - top, self.width, seed=top)

    def known(self, top, bottom):
        return None


def test_every_row_is_read_once_and_bands_follow_each_other():
    source = Endless(300, 40)
    bands = list(predict_bands(local_segmenter(), source, Tiles()))
    assert [top for top, _ in source.asked] == [0, *(bottom for _, bottom in source.asked[:-1])]
    assert source.asked[-1][1] == 300
    assert [rows.start for rows, _ in bands] == [0, *(rows.stop for rows, _ in bands[:-1])]
    assert bands[-1][0].stop == 300
    assert all(band.shape == (rows.stop - rows.start, 40) for rows, band in bands)


def test_a_band_comes_before_what_lies_below_it_is_read():
    source = Endless(300, 40)
    rows, _ = next(iter(predict_bands(local_segmenter(), source, Tiles())))
    assert rows.start == 0
    assert source.asked == [(0, 32)]


def peak_of_arrays(height):
    segmenter = local_segmenter()
    tracemalloc.start()
    try:
        for _ in predict_bands(segmenter, Endless(height, 600), Tiles(300)):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_arrays_in_memory_do_not_grow_with_the_height_of_the_image():
    lower, higher = peak_of_arrays(600), peak_of_arrays(2400)
    assert higher < 1.1 * lower
    assert higher < 8 * 300 * 600 * 3, "a few bands of windows"


def living_tensors(height, kind):
    segmenter, most = local_segmenter(kind), 0
    before = {id(one) for one in gc.get_objects() if type(one) is torch.Tensor}
    for _ in predict_bands(segmenter, Endless(height, 200), Tiles()):
        alive = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in gc.get_objects()
            if type(one) is torch.Tensor and id(one) not in before
        }
        most = max(most, sum(alive.values()))
    return most


@pytest.mark.parametrize("kind", ["binary", "mask-classification"])
def test_what_is_carried_over_is_an_overlap_of_scores(kind):
    lower, higher = living_tensors(60, kind), living_tensors(130, kind)
    channels = 1 if kind == "binary" else 3
    overlap, window = 4 * channels * 12 * 200, 4 * 32 * 32
    assert higher <= lower + 4 * window
    assert higher < overlap + 30 * window


def test_progress_counts_windows():
    calls = []
    list(predict_bands(local_segmenter(), Endless(60, 60), Tiles(), batch_size=3, progress=lambda *n: calls.append(n)))
    assert calls == [(0, 9), (3, 9), (6, 9), (9, 9)]
