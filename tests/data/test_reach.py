"""What an image size can reach at best."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from convlora.data.checking.reach import (
    CELL,
    SIZE_IS_TOLD,
    describe_size,
    describe_sizes,
    describe_windows,
    lost_regions,
    reach_of,
    some_labels,
)
from convlora.data.classes.class_table import ClassTable
from convlora.data.sample import Sample
from convlora.reporting import Silent
from convlora.training.run import train

BINARY = ClassTable(("background", "thing"))


def small_things(side=6, count=25, size=(300, 400), seed=5):
    """A mask of so many squares."""
    rng, mask = np.random.default_rng(seed), np.zeros(size, dtype=np.uint8)
    for _ in range(count):
        y, x = rng.integers(0, size[0] - side), rng.integers(0, size[1] - side)
        mask[y : y + side, x : x + side] = 1
    return mask


def samples_of(folder, *masks):
    found = []
    for number, mask in enumerate(masks):
        path = folder / f"{number}.png"
        Image.fromarray(mask).save(path)
        found.append(Sample(path, path, str(number)))
    return found


def slow_iou(mask, size, cell, share):
    """By loops over the cells, and Pillow to enlarge."""
    rows, columns = ((np.arange(size) + 0.5) * side // size for side in mask.shape)
    seen = mask[rows.astype(int)[:, None], columns.astype(int)]
    cells = np.array(
        [[seen[y : y + cell, x : x + cell].mean() for x in range(0, size, cell)] for y in range(0, size, cell)],
        dtype=np.float32,
    )
    large = Image.fromarray(cells).resize((size, size), Image.Resampling.BILINEAR)
    left = np.asarray(large.resize(mask.shape[::-1], Image.Resampling.BILINEAR)) > share
    return (left & (mask == 1)).sum() / (left | (mask == 1)).sum()


@pytest.mark.parametrize(("size", "cell"), [(64, 4), (64, 2), (128, 2), (128, 1)])
def test_masks_are_reduced_to_the_grid_and_back(size, cell):
    masks = [small_things(side=16), small_things(side=16, seed=6)]
    found = reach_of(masks, BINARY, (size, size), cell)
    means = {share: np.mean([slow_iou(mask, size, cell, share) for mask in masks]) for share in (0.5, 0.4, 0.3, 0.2)}
    assert found.iou == pytest.approx(max(means.values()), abs=2e-3)
    assert found.iou == pytest.approx(means[found.share], abs=2e-3)


def test_nothing_is_lost_where_each_pixel_has_a_cell():
    mask = small_things()
    reach = reach_of([mask], BINARY, (400, 400), CELL["full"])
    assert (reach.iou, lost_regions([mask], BINARY, reach, 1)) == (1.0, (0, ndimage.label(mask, np.ones((3, 3)))[1]))


def test_several_classes_and_ignored_pixels():
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, 32:] = 1
    mask[10:12, 10:12] = 2
    classes = ClassTable(("a", "b", "c"))
    assert reach_of([mask], classes, (64, 64), 1).iou == 1
    coarse = reach_of([mask], classes, (32, 32), 4)
    assert coarse.iou == pytest.approx(2 / 3, abs=0.01), "the small class is lost"
    assert lost_regions([mask], classes, coarse, 4) == (1, 3), "without a background all classes are things"
    mask[8:14, 8:14] = 255
    assert reach_of([mask], classes, (32, 32), 4).iou > 0.95


def test_the_size_that_would_do_does(tmp_path):
    samples = samples_of(tmp_path, small_things(side=12), small_things(side=12, seed=6))
    sentence, figures = describe_size(samples, BINARY, (64, 64), CELL["half"])
    assert re.fullmatch(
        r"An image size of 64 pixels can reach an IoU of 0\.\d\d at best: \d+ of \d+ connected regions vanish\. "
        r"With --image-size \d+ it is 0\.9\d\. With --window \d+( --image-size \d+)? it is 0\.9\d\.",
        sentence,
    )
    size = int(re.search(r"--image-size (\d+)", sentence)[1])
    labels = some_labels(samples, BINARY)
    assert reach_of(labels, BINARY, (size, size), 2).iou == figures[1].iou >= 0.9 > figures[0].iou
    assert describe_size(samples, BINARY, (size, size), 2)[0].endswith(
        f"can reach an IoU of {figures[1].iou:.2f} at best."
    )


@pytest.mark.parametrize(("cell", "expected"), [(CELL["none"], (128, 256)), (CELL["half"], (256, 256))])
def test_the_windows_that_would_do_do(cell, expected, tmp_path):
    """Large photographs with small things; nothing but windows helps."""
    mask = small_things(size=(1500, 2000))
    sentence, _ = describe_size(samples_of(tmp_path, mask), BINARY, (256, 256), cell)
    found = re.search(r"No size up to 1024 is enough\. With --window (\d+)(?: --image-size (\d+))? it is", sentence)
    side, size = int(found[1]), int(found[2] or found[1])
    assert (side, size) == expected
    tiles = [mask[y : y + side, x : x + side] for y in range(0, 1500, side) for x in range(0, 2000, side)]
    tiles = [tile for tile in tiles if tile.shape == (side, side) and tile.any()]
    assert reach_of([mask], BINARY, (1024, 1024), cell).iou < 0.8
    assert reach_of(tiles, BINARY, (size, size), cell).iou >= 0.9


def test_windows_are_named_beside_the_size_that_would_do_and_smaller_ones_for_a_run_on_windows(tmp_path):
    samples = samples_of(tmp_path, small_things(side=8, size=(600, 600)))
    sentence, figures = describe_sizes(samples, BINARY, CELL["half"])
    assert figures[0].iou < 0.9 <= figures[-1].iou
    assert "With --window 256 it is 0.9" in sentence
    assert "--window" not in describe_windows(samples, BINARY, (256, 256), (256, 256), CELL["half"])
    assert "With --window 256 it is 0.9" in describe_windows(samples, BINARY, (512, 512), (256, 256), CELL["half"])


def test_the_detail_branch_is_named_where_it_would_do(tmp_path):
    samples = samples_of(tmp_path, small_things(side=12))
    sentence, figures = describe_size(samples, BINARY, (320, 320), CELL["none"])
    assert re.search(r"With --detail half it is 0\.9\d\.$", sentence)
    assert describe_size(samples, BINARY, (320, 320), CELL["half"])[1][0].iou >= 0.9 > figures[0].iou


def test_nothing_is_said_where_there_is_nothing_to_score(tmp_path):
    empty = np.zeros((20, 20), dtype=np.uint8)
    (tmp_path / "broken.png").write_bytes(b"no image")
    samples = [*samples_of(tmp_path, empty, empty + 255), Sample(empty, tmp_path / "broken.png", "b")]
    assert describe_size(samples, BINARY, (64, 64), 2) == (None, [])
    assert describe_sizes([], BINARY, 2) == (None, [])


def test_large_masks_are_few(tmp_path, monkeypatch):
    monkeypatch.setattr("convlora.data.checking.reach._MOST_PIXELS", 3 * 300 * 400)
    samples = samples_of(tmp_path, *(small_things(seed=seed) for seed in range(5)))
    assert len(some_labels(samples, BINARY)) == 3


def test_masks_larger_than_the_first_one_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("convlora.data.checking.reach._MOST_PIXELS", 2 * 300 * 400)
    samples = samples_of(tmp_path, small_things(size=(20, 20)), *(small_things(seed=seed) for seed in range(5)))
    assert [labels.shape for labels in some_labels(samples, BINARY)] == [(20, 20), (300, 400)]
    assert len(some_labels(samples[1:2], BINARY)) == 1


def test_large_sizes_do_not_fill_the_memory(monkeypatch):
    mask, made = small_things(size=(400, 300)), []
    expected = reach_of([mask], BINARY, (256, 256), 1)

    def enlarge(*arguments, **named):
        found = interpolate(*arguments, **named)
        made.append(found.numel())
        return found

    interpolate = torch.nn.functional.interpolate
    monkeypatch.setattr("torch.nn.functional.interpolate", enlarge)
    monkeypatch.setattr("convlora.enlarge.BAND_VALUES", 2 * 10 * 300)
    assert reach_of([mask], BINARY, (256, 256), 1).iou == pytest.approx(expected.iou, abs=1e-6)
    assert max(made) < 2 * 256 * 256 / 10


def test_the_check_and_a_run_say_it(convlora, blobs, make_config, tmp_path, monkeypatch):
    code, out, _ = convlora("data", "check", blobs)
    assert code == 0
    assert re.search(
        r"IoU that an image size can reach at best: \d\.\d\d at 256, \d\.\d\d at 512 and \d\.\d\d at 1024", out
    )
    code, out, _ = convlora("data", "check", blobs, "--image-size", "32x48", "--detail", "none", "--json")
    (first, *_) = json.loads(out)["reachable"]
    assert first["image_size"] == [32, 48]
    messages, reporter = [], Silent()
    reporter.message = messages.append
    config = make_config(max_steps=1)
    config.model.image_size, config.model.detail = [32, 48], "none"
    train(config, tmp_path / "run", reporter=reporter)
    (said,) = [text for text in messages if text.startswith("An image size of 32 x 48 pixels can reach an IoU of")]
    assert f"{first['iou']:.2f} at best" in said
    messages.clear()
    monkeypatch.setenv(SIZE_IS_TOLD, "1")
    train(config, tmp_path / "other", reporter=reporter)
    assert (tmp_path / "other" / "metrics.json").is_file()
    assert not [text for text in messages if "image size" in text]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--image-size", "100"), "divisible by 16, got 100"),
        (("--image-size", "65536"), "at most 4096"),
        (("--image-size", "\u00b2"), "a number of pixels"),
        (("--image-size", "9" * 5000), "a number of pixels"),
        (("--detail", "fine"), "got 'fine'"),
    ],
)
def test_sizes_that_cannot_be(convlora, blobs, given, words):
    code, _, told = convlora("data", "check", blobs, *given)
    assert code == 2
    assert words in " ".join(told.split())
