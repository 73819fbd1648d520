"""Images of any number of bands: which are read, and what becomes of their values."""

import io
import os

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

from convlora.data.augmentation import Augmentation
from convlora.data.reading.band_files import count_bands, read_bands, read_known_bands
from convlora.data.reading.bands import BandImage, BandReading, check_count, reading_of, to_eight_bits
from convlora.data.reading.read import read_as, read_picture, read_seen, read_size
from convlora.data.reading.rows import open_rows
from convlora.data.reading.tiff.rows import TiffRows
from convlora.data.sources.listing import list_images
from convlora.data.transforms import denormalize, prepare_image, resize_image, to_pixel_values
from convlora.errors import InputError

H, W, N = 20, 26, 5
RANGES = tuple((100.0 * band, 100.0 * band + 1000.0) for band in range(N))


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).integers(0, 1500, (N, H, W)).astype(np.uint16)


def expected(values, ranges=RANGES):
    """By a table of every value, computed with whole numbers."""
    result = []
    for band, (low, _) in zip(values, ranges):
        clipped = np.clip(band.astype(int), int(low), int(low) + 1000) - int(low)
        result.append((2 * 255 * clipped + 1000) // 2000)
    return np.moveaxis(np.stack(result), 0, -1)


def all_bands(count=N, ranges=RANGES):
    return BandReading(None, count, ranges, ((0.25,) * count, (0.5,) * count))


def write(path, values, kind):
    if kind == "interleaved":
        tifffile.imwrite(path, np.moveaxis(values, 0, -1), photometric="minisblack", planarconfig="contig")
    elif kind == "planar":
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate")
    elif kind == "pages":
        tifffile.imwrite(path, values, photometric="minisblack")
    elif kind == "imagej":
        tifffile.imwrite(path, values, imagej=True)
    elif kind == "tiled":
        with rasterio.open(
            path, "w", driver="GTiff", count=len(values), height=H, width=W, dtype=values.dtype, tiled=True,
            blockxsize=16, blockysize=16, compress="deflate",
        ) as file:  # fmt: skip
            file.write(values)
    elif kind == "npy":
        np.save(path, values)
    else:
        np.save(path, np.moveaxis(values, 0, -1))


KINDS = ("interleaved", "planar", "pages", "imagej", "tiled", "npy", "npy-last")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_every_kind_of_file_holds_the_same_bands(values, tmp_path, kind):
    path = tmp_path / ("image.npy" if "npy" in kind else "image.tif")
    write(path, values, kind)
    assert count_bands(path) == (N, False)
    assert read_size(path, all_bands()) == (H, W)
    whole = expected(values)
    assert np.abs(read_bands(path, all_bands()).pixels.astype(int) - whole).max() <= 1  # halves are rounded to even
    picked = BandReading((4, 1), 2, (RANGES[3], RANGES[0]), ((0.0,) * 2, (1.0,) * 2))
    for source in (path, path.read_bytes()):
        two = read_bands(source, picked).pixels
        assert np.array_equal(two, read_bands(path, all_bands()).pixels[..., [3, 0]])
    with open_rows(path, all_bands()) as rows:  # of all of them: by pieces or decoded whole
        assert rows.channels == N
        pieces = np.concatenate([rows.read(0, 7), rows.read(7, H)])
        assert np.array_equal(pieces, read_bands(path, all_bands()).pixels)
        assert rows.known(0, H) is None


def test_an_array_is_read_like_a_file(values):
    for array in (values, np.moveaxis(values, 0, -1), np.asfortranarray(values), values.astype(np.float64)):
        assert np.array_equal(read_bands(array, all_bands()).pixels, read_bands(values, all_bands()).pixels)


def test_three_bands_are_a_photograph(values, tmp_path):
    path = tmp_path / "image.tif"
    write(path, values, "planar")
    reading = BandReading((3, 2, 1), 3, RANGES[2::-1])
    image = read_as(path, reading)
    assert isinstance(image, Image.Image)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), read_bands(path, all_bands()).pixels[..., [2, 1, 0]])
    grey = read_as(path, BandReading((4,), 1, RANGES[3:4]))
    assert np.array_equal(np.asarray(grey), np.asarray(grey)[..., :1].repeat(3, axis=-1))
    assert np.array_equal(np.asarray(grey)[..., 0], read_bands(path, all_bands()).pixels[..., 3])
    photo = np.random.default_rng(1).integers(0, 256, (3, H, W), np.uint8)
    png = io.BytesIO()
    Image.fromarray(np.moveaxis(photo, 0, -1)).save(png, "PNG")
    swapped = read_as(png.getvalue(), BandReading((3, 2, 1), 3, ((0.0, 255.0),) * 3))
    assert np.array_equal(np.moveaxis(np.asarray(swapped), -1, 0), photo[::-1])


def test_pixels_without_data_are_black_and_not_known(tmp_path):
    values = np.random.default_rng(2).integers(200, 900, (N, H, W)).astype(np.float32)
    values[:, :3] = -9999
    values[2, 5, 5] = -9999
    values[1, 6, 6] = np.nan
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path, values, photometric="minisblack", planarconfig="separate", extratags=[(42113, 2, 6, "-9999", True)]
    )
    pixels, known = read_bands(path, all_bands()).pixels, read_known_bands(path, all_bands())
    assert not pixels[:3].any()
    assert (pixels[5, 5] == 0).tolist() == [False, False, True, False, False]
    assert (pixels[6, 6] == 0).tolist() == [False, True, False, False, False]
    assert np.array_equal(known, np.arange(H)[:, None].repeat(W, axis=1) >= 3)
    with open_rows(path, all_bands()) as rows:
        assert np.array_equal(rows.known(0, H), known)
        assert np.array_equal(rows.read(0, H), pixels)


def test_alpha_is_no_band_unless_it_is_named(tmp_path):
    values = np.random.default_rng(3).integers(1, 256, (H, W, 4), np.uint8)
    values[0, :, 3] = 0
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unassalpha"])
    assert count_bands(path) == (3, True)
    three = BandReading(None, 3, ((0.0, 255.0),) * 3, ((0.0,) * 3, (1.0,) * 3))
    assert not read_bands(path, three).pixels[0].any()
    assert np.array_equal(read_bands(path, three).pixels[1:], values[1:, :, :3])
    assert not read_known_bands(path, three)[0].any()
    four = BandReading(None, 4, ((0.0, 255.0),) * 4, ((0.0,) * 4, (1.0,) * 4))
    with pytest.raises(InputError, match=r"image\.tif has 3 bands and alpha, but 4 .*data\.bands=\[1,2,3,4\]"):
        read_bands(path, four)
    named = BandReading((1, 2, 3, 4), 4, four.ranges, four.statistics)
    assert np.array_equal(read_bands(path, named).pixels, values)
    assert read_known_bands(path, named) is None
    with open_rows(path, named) as rows:
        assert np.array_equal(rows.read(0, H), values)
    png = io.BytesIO()
    Image.fromarray(values).save(png, "PNG")
    assert np.array_equal(read_bands(png.getvalue(), three).pixels, values[..., :3])  # alpha of a PNG hides nothing
    assert np.array_equal(read_bands(png.getvalue(), named).pixels, values)


def test_white_may_be_zero_and_pages_may_be_turned(tmp_path):
    values = np.random.default_rng(4).integers(0, 256, (2, H, W), np.uint8)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, values, photometric="miniswhite", extratags=[(274, 3, 1, 6, True)])
    reading = BandReading(None, 2, ((0.0, 255.0),) * 2, ((0.0,) * 2, (1.0,) * 2))
    turned = np.stack([np.rot90(255 - page, -1) for page in values], axis=-1)  # a quarter turn to the right
    assert np.array_equal(read_bands(path, reading).pixels, turned)


def test_other_numbers_of_bands_are_refused_in_words(values):
    picked = BandReading((1, 2, 7), 3, RANGES[:3])
    for there, reading, words in (
        (3, all_bands(), r"has 3 bands, but 5 are to be read \(model\.bands\)"),
        (12, all_bands(), r"has 12 bands, but 5 .*data\.bands"),
        (1, all_bands(), "has 1 band, but 5"),
        (6, picked, r"has 6 bands, but band 7 .*data\.bands"),
    ):
        with pytest.raises(InputError, match=f"^x.tif {words}"):
            check_count("x.tif", there, False, reading)


def test_hostile_arrays_are_refused(tmp_path):
    path = tmp_path / "image.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    damaged = io.BytesIO()
    np.save(damaged, np.zeros((3, 4, 5)))
    cases = {
        "no image": path.read_bytes(),
        "cut short": damaged.getvalue()[:-8],
        "damaged": damaged.getvalue()[:30],
        "shape": _saved(np.zeros((2, 3, 4, 5))),
        "type": _saved(np.zeros((4, 5), complex)),
    }
    for content in cases.values():
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"image\.npy"):
            read_bands(path, all_bands())
    huge = _saved(np.zeros((1, 1))).replace(b"(1, 1)", b"(9**9,)")
    with pytest.raises(InputError):
        read_bands(huge, all_bands())
    claims = _saved(np.zeros((1, 1), np.uint8)).replace(b"(1, 1), }       ", b"(99999, 99999), }")
    with pytest.raises(InputError, match="too large"):
        read_bands(claims, all_bands())
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.npy")
        with pytest.raises(InputError):
            read_bands(tmp_path / "pipe.npy", all_bands())


def _saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_pages_that_differ_are_no_bands(tmp_path):
    path = tmp_path / "image.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((H, W), np.uint8))
        file.write(np.zeros((H, W + 1), np.uint8))
    with pytest.raises(InputError, match=r"Page 2 of .*image\.tif"):
        read_bands(path, all_bands(2))


def test_settings_that_contradict_each_other():
    data = {"intensity": "type"}
    assert reading_of(data, {}) == "type"
    assert reading_of({**data, "bands": [4, 3, 2]}, {}) == BandReading((4, 3, 2), 3)
    for bands, model, words in (([1, 2], {}, "model.bands=2"), ([1, 2], {"bands": 3}, "agree")):
        with pytest.raises(ValueError, match=words):
            reading_of({**data, "bands": bands}, model)
    known = {"band_range": [[0, 100], [50, 150]], "band_mean": [25, 100], "band_std": [10, 20]}
    reading = reading_of({**data, **known}, {"bands": 2})
    assert reading.statistics == ((0.25, 0.5), (0.1, 0.2))
    with pytest.raises(ValueError, match="band_range is for 2 bands"):
        reading_of({**data, **known}, {"bands": 3})


def test_values_become_bytes():
    values = np.array([[-5.0, 0, 40, 100, 999], [np.nan, np.inf, -np.inf, 25, 75]])
    bytes_ = to_eight_bits(values, (0.0, 100.0), None)
    assert bytes_.tolist() == [[0, 0, 102, 255, 255], [0, 255, 0, 64, 191]]
    assert not to_eight_bits(values, (1.0, 1.0), None).any()


def test_bands_are_resized_and_normalised_like_photographs():
    photo = np.random.default_rng(5).integers(0, 256, (H, W, 3), np.uint8)
    bands = np.concatenate([photo, photo[..., :1]], axis=-1)
    resized = resize_image(BandImage(bands), (8, 12))
    assert resized[:3].equal(resize_image(Image.fromarray(photo), (8, 12)))
    reading = BandReading(None, 4, ((0.0, 255.0),) * 4, ((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)))
    pixel_values = to_pixel_values(resized, reading)
    for band, (mean, std) in enumerate(zip(*reading.statistics)):
        assert np.allclose(pixel_values[band], (resized[band].double() / 255 - mean) / std, atol=1e-6)
    assert denormalize(prepare_image(Image.fromarray(photo), (8, 12))).shape == (3, 8, 12)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_augmentations_take_any_number_of_bands(count):
    import torch

    images = torch.randint(0, 256, (6, count, 16, 16), dtype=torch.uint8)
    labels = torch.zeros(6, 16, 16, dtype=torch.uint8)
    augmentation = Augmentation("strong", is_colour=False)
    changes = torch.stack([augmentation.draw(seed, (16, 16)) for seed in range(6)])
    changed, _ = augmentation.apply(images, labels, changes)
    assert changed.shape == images.shape
    assert changed.isfinite().all()
    # Each band is changed as it would be alone.
    alone, _ = augmentation.apply(images[:, :1], labels, changes)
    assert torch.allclose(changed[:, :1], alone, atol=1e-6)
    assert not torch.equal(changed, images / 255)


def test_pictures_show_three_bands(values):
    picture = np.asarray(read_picture(values, all_bands()))
    assert np.array_equal(picture, read_bands(values, all_bands()).pixels[..., :3])
    seen, size = read_seen(values, (8, 8), all_bands())
    assert size == (H, W)
    assert isinstance(seen, BandImage)


def test_arrays_count_as_images_where_there_are_no_others(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5)))
    files, problems = list_images(tmp_path)
    assert (list(files), problems) == (["a"], [])
    Image.new("L", (4, 5)).save(tmp_path / "a.png")
    files, problems = list_images(tmp_path)
    assert files["a"].suffix == ".png"
    assert [problem.kind for problem in problems] == ["unused-file"]


def test_rows_of_photographs_have_three_channels():
    assert TiffRows.channels == 3
