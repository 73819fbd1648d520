"""Images read by rows against images read whole."""

import struct
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from convlora.data.reading.gdal import gdal
from convlora.data.reading.images import read_image
from convlora.data.reading.rows import WholeImage, is_read_by_rows, open_rows
from convlora.errors import InputError

rng = np.random.default_rng(0)
HEIGHT, WIDTH = 67, 45


def colours(channels):
    return rng.integers(5, 240, (HEIGHT, WIDTH, channels), dtype=np.uint8)


def numbers(kind, high):
    return (rng.random((HEIGHT, WIDTH)) * high).astype(kind)


KINDS = {
    "L": lambda: Image.fromarray(colours(1)[..., 0]),
    "1": lambda: Image.fromarray(colours(1)[..., 0] > 100),
    "RGB": lambda: Image.fromarray(colours(3)),
    "RGBA": lambda: Image.fromarray(colours(4)),
    "LA": lambda: Image.fromarray(colours(2), "LA"),
    "P": lambda: Image.fromarray(colours(3)).quantize(40),
    "sixteen bits": lambda: Image.fromarray(numbers(np.uint16, 5000)),
    "thirty-two bits": lambda: Image.fromarray(numbers(np.int32, 60000)),
    "fractions": lambda: Image.fromarray(numbers(np.float32, 0.9)),
    "fractions up to 255": lambda: Image.fromarray(numbers(np.float32, 200)),
    "fractions above": lambda: Image.fromarray(numbers(np.float32, 3000)),
    "one value": lambda: Image.new("L", (WIDTH, HEIGHT), 7),
}


def in_pieces(path, intensity="type", step=16):
    with open_rows(path, intensity) as rows:
        pieces = [rows.read(top, min(top + step, rows.height)) for top in range(0, rows.height, step)]
        return np.concatenate(pieces), type(rows)


@pytest.mark.parametrize("intensity", ["type", "image"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_tiff_have_the_values_of_the_whole(tmp_path, kind, intensity):
    pytest.importorskip("rasterio")
    KINDS[kind]().save(tmp_path / "a.tif")
    pixels, reader = in_pieces(tmp_path / "a.tif", intensity)
    assert reader is not WholeImage
    assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "a.tif", intensity)))


@pytest.mark.parametrize("intensity", ["type", "image"])
@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "P", "sixteen bits"])
def test_rows_of_other_files_are_cut_from_the_whole(tmp_path, kind, intensity):
    KINDS[kind]().save(tmp_path / "a.png")
    pixels, reader = in_pieces(tmp_path / "a.png", intensity)
    assert reader is WholeImage
    assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "a.png", intensity)))


def write_tiff(path, bands, **profile):
    rasterio = pytest.importorskip("rasterio")
    settings = {"driver": "GTiff", "count": len(bands), "height": HEIGHT, "width": WIDTH, "dtype": bands.dtype}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", **(settings | profile)) as new,
    ):
        new.write(bands)


@pytest.mark.parametrize("intensity", ["type", "image"])
@pytest.mark.parametrize(
    ("channels", "profile"),
    [
        (3, {"photometric": "rgb"}),
        (4, {"photometric": "rgb", "alpha": "premultiplied"}),
        (4, {"photometric": "rgb", "alpha": "no"}),
        (1, {"photometric": "miniswhite"}),
        (1, {"nbits": 4, "photometric": "minisblack"}),
        (3, {"photometric": "rgb", "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "lzw"}),
        (3, {"photometric": "rgb", "interleave": "band", "compress": "deflate"}),
    ],
)
def test_layouts_of_tiff(tmp_path, channels, profile, intensity):
    values = colours(channels) if "nbits" not in profile else colours(channels) // 16
    write_tiff(tmp_path / "a.tif", np.moveaxis(values, -1, 0), **profile)
    pixels, _ = in_pieces(tmp_path / "a.tif", intensity)
    assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "a.tif", intensity)))


@pytest.mark.parametrize("intensity", ["type", "image"])
def test_colours_of_sixteen_bits(tmp_path, intensity):
    values = rng.integers(300, 60000, (3, HEIGHT, WIDTH)).astype(np.uint16)
    write_tiff(tmp_path / "a.tif", values, photometric="rgb")
    pixels, _ = in_pieces(tmp_path / "a.tif", intensity)
    assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "a.tif", intensity)))


def test_of_more_bands_the_first_three_count(tmp_path):
    values = np.moveaxis(colours(6), -1, 0)
    write_tiff(tmp_path / "a.tif", values)
    pixels, _ = in_pieces(tmp_path / "a.tif")
    assert np.array_equal(pixels, np.moveaxis(values[:3], 0, -1))


def test_fractions_of_several_bands_share_a_range(tmp_path):
    values = rng.random((4, HEIGHT, WIDTH)).astype(np.float32)
    values[1, 66, 3] = 200  # in the last rows, so that it has to be known before the first are read
    write_tiff(tmp_path / "a.tif", values)
    pixels, _ = in_pieces(tmp_path / "a.tif")
    assert pixels[66, 3, 1] == 200
    assert (np.delete(pixels.ravel(), np.ravel_multi_index((66, 3, 1), pixels.shape)) <= 1).all()


def spotted(bands, value):
    """Some pixels of nothing but a value, and some that have it in one band only."""
    bands = bands.copy()
    bands[:, :9, :20] = value
    bands[0, 30:40] = value
    return bands


def of_kind(kind, low, high, count=1):
    return (low + rng.random((count, HEIGHT, WIDTH)) * (high - low)).astype(kind)


MARKED = {
    "float nan": (of_kind(np.float32, 0, 1), np.nan, {}),
    "float -9999": (of_kind(np.float32, 0.2, 0.9), -9999, {}),
    "lowest float": (of_kind(np.float32, 0.2, 200), float(np.finfo(np.float32).min), {}),
    "highest float": (of_kind(np.float32, 0.2, 200), float(np.finfo(np.float32).max), {}),
    "16 bits 65535": (of_kind(np.uint16, 300, 5000), 65535, {}),
    "16 bits 0": (of_kind(np.uint16, 300, 5000), 0, {}),
    "16 bits with a sign": (of_kind(np.int16, 300, 5000), -32768, {}),
    "32 bits": (of_kind(np.int32, 300, 5000), -(2**31), {}),
    "grey 255": (of_kind(np.uint8, 20, 200), 255, {}),
    "grey 0": (of_kind(np.uint8, 20, 200), 0, {}),
    "4 bits": (of_kind(np.uint8, 1, 14), 15, {"nbits": 4}),
    "1 bit": (of_kind(np.uint8, 0, 2), 0, {"nbits": 1}),
    "white is 0": (of_kind(np.uint8, 20, 200), 0, {"photometric": "miniswhite"}),
    "colours 255": (of_kind(np.uint8, 20, 200, 3), 255, {"photometric": "rgb"}),
    "colours 0": (of_kind(np.uint8, 20, 200, 3), 0, {"photometric": "rgb"}),
    "colours with alpha 255": (of_kind(np.uint8, 20, 200, 4), 255, {"photometric": "rgb", "alpha": "yes"}),
    "colours times alpha 0": (of_kind(np.uint8, 20, 60, 4), 0, {"photometric": "rgb", "alpha": "premultiplied"}),
    "colours of 16 bits 0": (of_kind(np.uint16, 300, 60000, 3), 0, {"photometric": "rgb"}),
}


@pytest.mark.parametrize("intensity", ["type", "image"])
@pytest.mark.parametrize("kind", MARKED)
def test_pixels_without_data_are_alike_in_both(tmp_path, kind, intensity):
    bands, value, profile = MARKED[kind]
    write_tiff(tmp_path / "a.tif", spotted(bands, value), nodata=value, **profile)
    pixels, reader = in_pieces(tmp_path / "a.tif", intensity)
    assert reader is not WholeImage
    whole = np.asarray(read_image(tmp_path / "a.tif", intensity))
    assert np.array_equal(pixels, whole)
    assert not whole[:9, :20].any()
    if intensity == "image" and kind != "1 bit":  # of which one value is left, without a range
        assert whole.max() == 255
        assert len(np.unique(whole)) >= min(30, len(np.unique(bands))), "the value does not take part in the range"


def test_an_index_of_a_palette_that_means_no_data(tmp_path):
    pytest.importorskip("rasterio")
    picture = KINDS["P"]()
    picture.save(tmp_path / "a.tif", tiffinfo={42113: "3"})
    pixels, reader = in_pieces(tmp_path / "a.tif")
    assert reader is not WholeImage
    assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "a.tif")))
    assert not pixels[np.asarray(picture) == 3].any()


@pytest.mark.parametrize("text", ["", "none", "7 8", "7abc", "1_0", "\0"])
def test_what_is_no_number_marks_nothing(tmp_path, text):
    pytest.importorskip("rasterio")
    picture = Image.fromarray(np.resize(np.arange(12, dtype=np.uint8), (HEIGHT, WIDTH)) * 10)
    picture.save(tmp_path / "a.tif", tiffinfo={42113: text})
    picture.save(tmp_path / "plain.tif")
    plain = np.asarray(read_image(tmp_path / "plain.tif", "image"))
    assert np.array_equal(in_pieces(tmp_path / "a.tif", "image")[0], plain)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.tif", "image")), plain)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tile_without_any_data_is_black(tmp_path, kind):
    write_tiff(tmp_path / "a.tif", np.full((1, HEIGHT, WIDTH), 255, kind), nodata=255)
    assert not in_pieces(tmp_path / "a.tif")[0].any()
    assert not np.asarray(read_image(tmp_path / "a.tif")).any()


def test_values_that_mean_no_data_are_black_and_outside_the_range(tmp_path):
    values = rng.random((1, HEIGHT, WIDTH)).astype(np.float32) + 1
    values[0, :, :9] = -9999
    write_tiff(tmp_path / "a.tif", values, nodata=-9999)
    with open_rows(tmp_path / "a.tif", "image") as rows:
        pixels, known = rows.read(0, HEIGHT), rows.known(0, HEIGHT)
    assert np.array_equal(known, values[0] != -9999)
    assert (pixels[:, :9] == 0).all()
    low, high = values[0, :, 9:].min(), values[0, :, 9:].max()
    expected = (values[0, :, 9:].astype(float) - low) / (float(high) - low) * 255
    assert np.abs(pixels[:, 9:, 0] - expected).max() <= 0.501
    with open_rows(tmp_path / "a.tif") as rows:
        assert rows.read(0, HEIGHT).max() == 2, "fractions up to 2 are scaled by 255"


TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
FULL = {"u1": 255, "i1": 127, "i2": 32767, "f2": 1, "f4": 1, "f8": 255}
CHANNELS = [
    ({"photometric": "minisblack"}, 1),
    ({"photometric": "miniswhite"}, 1),
    *[
        (
            {"photometric": photometric, "planarconfig": planar, "extrasamples": ["unspecified"] * extra},
            3 + extra - grey,
        )
        for photometric, grey in (("minisblack", 2), ("rgb", 0))
        for planar in ("contig", "separate")
        for extra in (0, 1, 2, 4)
        if extra >= grey // 2
    ],
    ({"photometric": "rgb", "planarconfig": "contig", "extrasamples": ["unassalpha"]}, 4),
    ({"photometric": "rgb", "planarconfig": "contig", "extrasamples": ["assocalpha"]}, 4),
    ({"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["assocalpha", "unspecified"]}, 5),
    ({"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}, 2),
    ({"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["assocalpha"]}, 2),
]


@pytest.mark.parametrize("kind", TYPES)
def test_both_readers_see_the_same_in_every_layout(tmp_path, kind):
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    for options, channels in CHANNELS:
        values = (rng.random((HEIGHT, WIDTH, channels)) * FULL.get(kind, 65535)).astype(kind)
        if "alpha" in str(options):
            values[:5] = values[:5] * (np.arange(channels) < 3 - 2 * (channels == 2))  # alpha 0
        stored = values if options.get("planarconfig") == "contig" else np.moveaxis(values, -1, 0)
        tifffile.imwrite(path, stored if channels > 1 else values[..., 0], metadata=None, **options)
        for intensity in ("type", "image"):
            pixels, reader = in_pieces(path, intensity)
            assert reader is not WholeImage
            assert np.array_equal(pixels, np.asarray(read_image(path, intensity))), (options, intensity)
        assert pixels.max() >= (127 if kind in ("i1", "i2") else 250), options


def by_alpha(values, outside):
    alpha = np.where(outside, 0, 255).astype(values.dtype)
    return {"bands": np.concatenate([values, alpha[None]]), "photometric": "rgb", "alpha": "yes"}


def by_value(values, outside):
    return {"bands": np.where(outside, 0, values.clip(1)), "nodata": 0}


def by_mask_band(values, outside):
    return {"bands": values, "mask": ~outside}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("marked", [by_alpha, by_value, by_mask_band])
def test_where_there_is_data_is_what_rasterio_says(tmp_path, marked, inside):
    rasterio = pytest.importorskip("rasterio")
    outside = np.zeros((HEIGHT, WIDTH), bool)
    outside[:, :20] = True
    how = marked(np.moveaxis(colours(3), -1, 0), outside)
    bands, mask = how.pop("bands"), how.pop("mask", None)
    layout = {"driver": "GTiff", "count": len(bands), "height": HEIGHT, "width": WIDTH, "dtype": bands.dtype}
    with gdal(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(tmp_path / "a.tif", "w", **layout, **how) as new:
        new.write(bands)
        if mask is not None:
            new.write_mask(mask)
    with gdal(), rasterio.open(tmp_path / "a.tif") as dataset:
        expected = dataset.dataset_mask() != 0
    assert np.array_equal(expected, ~outside)
    with open_rows(tmp_path / "a.tif") as rows:
        assert np.array_equal(np.concatenate([rows.known(0, 9), rows.known(9, HEIGHT)]), expected)
    for intensity in ("type", "image"):
        pixels, _ = in_pieces(tmp_path / "a.tif", intensity)
        assert not pixels[outside].any()
        assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "a.tif", intensity)))


def test_a_pixel_with_data_in_one_band_is_known(tmp_path):
    values = np.moveaxis(colours(3), -1, 0).copy()
    values[:, 0, 0] = 0
    values[:2, 1, 1] = 0
    write_tiff(tmp_path / "a.tif", values, nodata=0)
    with open_rows(tmp_path / "a.tif") as rows:
        known = rows.known(0, 2)
        assert np.array_equal(rows.read(1, 2)[0, 1], values[:, 1, 1])
    assert not known[0, 0]
    assert known[1, 1]


def test_a_turned_tiff_is_read_whole(tmp_path):
    image = Image.fromarray(colours(3))
    image.save(tmp_path / "a.tif", tiffinfo={274: 6})
    pixels, reader = in_pieces(tmp_path / "a.tif")
    assert reader is WholeImage
    assert pixels.shape == (WIDTH, HEIGHT, 3)


# What goes wrong.


@pytest.fixture
def without_rasterio(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)


def test_without_the_extra_a_tiff_is_read_whole(tmp_path, without_rasterio):
    KINDS["RGB"]().save(tmp_path / "a.tif")
    assert not is_read_by_rows(tmp_path / "a.tif")
    pixels, reader = in_pieces(tmp_path / "a.tif")
    assert reader is WholeImage
    assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "a.tif")))


def test_a_large_tiff_names_the_extra(tmp_path, without_rasterio, monkeypatch):
    KINDS["RGB"]().save(tmp_path / "a.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=r"a\.tif is too large .* Install .*: pip install 'convlora\[geo\]'\."):
        in_pieces(tmp_path / "a.tif")


def test_an_unusual_tiff_is_read_whole_without_the_extra(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", rng.random((3, HEIGHT, WIDTH)).astype(np.float32))
    by_rows, _ = in_pieces(tmp_path / "a.tif")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    whole, reader = in_pieces(tmp_path / "a.tif")
    assert reader is WholeImage
    assert np.array_equal(whole, by_rows)


def test_other_large_files_are_to_be_converted(tmp_path, monkeypatch):
    KINDS["RGB"]().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=r"a\.png is too large to be decoded whole\. Convert it to a tiled TIFF"):
        in_pieces(tmp_path / "a.png")


def test_a_large_tiff_is_read_all_the_same(tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    image = KINDS["RGB"]()
    image.save(tmp_path / "a.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert np.array_equal(in_pieces(tmp_path / "a.tif")[0], np.asarray(image))


@pytest.mark.parametrize("value", [-3.0, 70000.0])
def test_values_without_a_known_range(tmp_path, value):
    values = rng.random((1, HEIGHT, WIDTH)).astype(np.float32)
    values[0, 60, 3] = value
    write_tiff(tmp_path / "a.tif", values)
    with pytest.raises(InputError, match=rf"a\.tif has values from .*{value:g}.*data\.intensity=image"):
        in_pieces(tmp_path / "a.tif")


def test_the_range_is_found_a_few_rows_at_a_time_if_they_are_long(tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    from convlora.data.reading.tiff import rows as tiff_rows

    write_tiff(tmp_path / "a.tif", rng.random((1, HEIGHT, WIDTH)).astype(np.float32) * 3)
    at_once, _ = in_pieces(tmp_path / "a.tif")
    monkeypatch.setattr(tiff_rows, "_MOST_READ", 5 * WIDTH)
    assert np.array_equal(in_pieces(tmp_path / "a.tif")[0], at_once)


def test_nothing_but_missing_values(tmp_path):
    write_tiff(tmp_path / "a.tif", np.full((1, HEIGHT, WIDTH), np.nan, np.float32))
    with pytest.raises(InputError, match=r"a\.tif holds nothing but NaN, infinite or missing values\. Replace"):
        in_pieces(tmp_path / "a.tif")


def test_complex_numbers(tmp_path):
    write_tiff(tmp_path / "a.tif", np.ones((1, HEIGHT, WIDTH), np.complex64))
    with pytest.raises(InputError, match=r"a\.tif holds complex numbers.*Convert it"):
        in_pieces(tmp_path / "a.tif")


def header(width, height):
    """A TIFF file that states a size, of one tile that is not there."""
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
        (322, 4, -(-width // 16) * 16), (323, 4, -(-height // 16) * 16), (324, 4, 0), (325, 4, 0),
    ]  # fmt: skip
    packed = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(packed) + bytes(4)


@pytest.mark.parametrize(("width", "height"), [(400_000_000, 1), (100_000, 100_000), (2_000_000_000, 1)])
def test_a_small_file_of_many_pixels_is_refused_before_memory_is_taken(tmp_path, width, height):
    pytest.importorskip("rasterio")
    (tmp_path / "a.tif").write_bytes(header(width, height))
    message = rf"a\.tif says that it holds {width} x {height} pixels with 1 channel of 8-bit .* cannot be in a file of "
    with pytest.raises(InputError, match=message), open_rows(tmp_path / "a.tif"):
        pass


def test_one_piece_of_too_many_pixels(tmp_path):
    pytest.importorskip("rasterio")
    (tmp_path / "a.tif").write_bytes(header(20_000, 20_000) + bytes(1 << 16))
    with (
        pytest.raises(
            InputError, match=r"a\.tif stores 20000 x 20000 pixels in one piece.* tiled TIFF: gdal_translate"
        ),
        open_rows(tmp_path / "a.tif"),
    ):
        pass


def test_a_damaged_tiff(tmp_path):
    pytest.importorskip("rasterio")
    KINDS["RGB"]().save(tmp_path / "a.tif", compression="tiff_lzw")
    content = (tmp_path / "a.tif").read_bytes()
    for keep in (200, len(content) // 2):
        (tmp_path / "a.tif").write_bytes(content[:keep])
        with pytest.raises(InputError, match=r"a\.tif is damaged.*Replace the file"):
            in_pieces(tmp_path / "a.tif")
