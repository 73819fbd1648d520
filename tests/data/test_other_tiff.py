"""TIFF files that Pillow does not know, or takes for something else."""

import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from convlora.data.reading.images import read_header, read_image, read_mask
from convlora.data.reading.tiff.header import number_of_pages
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.errors import InputError
from tests.data.images_on_disk import noise

GREY = noise(3)[..., 0] // 2
COLOUR = noise(4)


def write(path, values, **options):
    tifffile.imwrite(path, values, metadata=None, **options)
    return path


def pixels(path, intensity="type"):
    return np.asarray(read_image(path, intensity))


def test_signed_bytes_are_values_from_0_to_127(tmp_path):
    path = write(tmp_path / "a.tif", GREY.astype(np.int8))
    assert np.array_equal(pixels(path)[..., 0], GREY)
    assert np.array_equal(read_mask(path), GREY)
    path = write(tmp_path / "b.tif", GREY.astype(np.int8) - 5)
    with pytest.raises(InputError, match=r"b\.tif has values from -5 to .* data\.intensity=image"):
        read_image(path)
    assert pixels(path, "image").max() == 255
    with pytest.raises(InputError, match=r"b\.tif is a mask with the value -5"):
        read_mask(path)


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_fractions_of_other_widths(tmp_path, kind):
    path = write(tmp_path / "a.tif", (GREY / 127).astype(kind))
    assert np.abs(pixels(path)[..., 0].astype(int) - np.rint(GREY / 127 * 255)).max() <= 1
    assert np.array_equal(read_mask(write(tmp_path / "b.tif", GREY.astype(kind))), GREY)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_three_channels_are_colours_whatever_they_are_called(tmp_path, photometric, planar):
    values = COLOUR if planar == "contig" else np.moveaxis(COLOUR, -1, 0)
    path = write(tmp_path / "a.tif", values, photometric=photometric, planarconfig=planar)
    assert np.array_equal(pixels(path), COLOUR)
    assert np.array_equal(read_mask(path) & 0xFFFFFF, COLOUR @ np.array([65536, 256, 1]))
    fractions = write(
        tmp_path / "b.tif", (values / 255).astype(np.float32), photometric=photometric, planarconfig=planar
    )
    assert np.array_equal(pixels(fractions), COLOUR)
    with pytest.raises(InputError, match=r"b\.tif is a mask with 3 channels of 32-bit fractions\. Save it as"):
        read_mask(fractions)


def test_more_channels_are_counted(tmp_path):
    values = np.concatenate([COLOUR, COLOUR[..., :2]], axis=-1)
    path = write(tmp_path / "a.tif", np.moveaxis(values, -1, 0), photometric="minisblack", planarconfig="separate")
    assert np.array_equal(pixels(path), COLOUR)
    assert read_header(path).unused_channels == 2
    path = write(tmp_path / "b.tif", values[..., :2], photometric="minisblack", planarconfig="contig")
    assert np.array_equal(pixels(path)[..., 0], COLOUR[..., 0])
    assert read_header(path).unused_channels == 1


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.int16])
def test_grey_that_grows_towards_black(tmp_path, kind):
    """Images are turned round, as they are shown; in masks the stored values count."""
    scale = {np.uint16: 257, np.int16: 257}.get(kind, 1)
    path = write(tmp_path / "a.tif", (GREY.astype(kind) * kind(scale)), photometric="miniswhite")
    assert np.array_equal(pixels(path)[..., 0], 255 - GREY)
    assert np.array_equal(read_mask(path), GREY.astype(int) * scale)
    assert read_header(path).zero_is_white


def test_a_mask_of_one_bit_in_which_0_is_white(tmp_path):
    path = write(tmp_path / "a.tif", GREY > 50, photometric="miniswhite")
    assert np.array_equal(read_mask(path), GREY > 50)
    assert np.array_equal(pixels(path)[..., 0], np.where(GREY > 50, 0, 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_they_are_turned_too(tmp_path, orientation):
    Image.fromarray(GREY).save(tmp_path / "plain.tif", tiffinfo={274: orientation})
    path = write(tmp_path / "a.tif", GREY.astype(np.int8), extratags=[(274, 3, 1, orientation, True)])
    assert not TiffLayout.of_file(path).is_plain
    assert np.array_equal(pixels(path), pixels(tmp_path / "plain.tif"))
    assert np.array_equal(read_mask(path), read_mask(tmp_path / "plain.tif"))
    assert read_header(path) == read_header(tmp_path / "plain.tif")


def test_palettes_of_16_bits(tmp_path):
    colours = np.zeros((3, 65536), np.uint16)
    colours[:, 300] = (256, 512, 65535)
    indices = np.where(GREY > 50, 300, 0).astype(np.uint16)
    path = write(tmp_path / "a.tif", indices, photometric="palette", colormap=colours)
    assert np.array_equal(pixels(path)[GREY > 50], np.broadcast_to((1, 2, 255), (int((GREY > 50).sum()), 3)))
    assert np.array_equal(read_mask(path), indices)


# What marks pixels without data.


def covered(shape):
    alpha = np.full(shape, 255, np.uint8)
    alpha[:4] = 0
    return alpha


def test_alpha_0_is_no_data(tmp_path):
    alpha = covered(GREY.shape)
    path = tmp_path / "a.tif"
    Image.fromarray(np.dstack([COLOUR, alpha])).save(path)
    assert np.array_equal(pixels(path), np.where(alpha[..., None] > 0, COLOUR, 0))
    other = write(
        tmp_path / "b.tif", np.dstack([COLOUR, alpha]), photometric="minisblack", extrasamples=[0, 0, "unassalpha"]
    )
    assert np.array_equal(pixels(other), pixels(path))
    fourth = write(tmp_path / "c.tif", np.dstack([COLOUR, alpha]), photometric="rgb", extrasamples=["unspecified"])
    assert np.array_equal(pixels(fourth), COLOUR), "a fourth channel need not be alpha"
    Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / "d.png")
    assert np.array_equal(pixels(tmp_path / "d.png"), COLOUR), "in PNG files it is transparency"


@pytest.mark.parametrize("kind", [np.uint8, np.float64])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("place", ["page", "file beside"])
def test_a_mask_of_its_own_marks_no_data(tmp_path, kind, place, orientation):
    values, mask = GREY.astype(kind) + kind(1), covered(GREY.shape)
    path = tmp_path / "a.tif"
    turn = {"extratags": [(274, 3, 1, orientation, True)]}
    with tifffile.TiffWriter(path) as file:
        file.write(values, metadata=None, **turn)
        if place == "page":
            file.write(mask > 0, subfiletype=4, photometric="mask", compression="zlib", metadata=None)
    if place == "file beside":
        write(tmp_path / "a.tif.msk", mask)
    plain = write(tmp_path / "plain.tif", np.where(mask > 0, values, 0).astype(kind), **turn)
    for intensity in ("type", "image"):
        if intensity == "type" or kind is np.uint8:
            assert np.array_equal(pixels(path, "type"), pixels(plain, "type"))
    assert pixels(path, "image").max() == 255
    assert number_of_pages(path) == 1, "a mask is no page of its own"


# Pages.


def test_pages_are_counted(tmp_path):
    assert read_header(write(tmp_path / "a.tif", np.stack([GREY] * 9))).pages == 9
    assert read_header((tmp_path / "a.tif").read_bytes()).pages == 9
    assert read_header(write(tmp_path / "b.tif", np.stack([GREY] * 9).astype(np.float64))).pages == 9


def test_smaller_versions_of_an_image_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY, metadata=None)
        file.write(GREY[::2, ::2], subfiletype=1, metadata=None)
    assert read_header(tmp_path / "a.tif").pages == 1


def test_stacks_that_imagej_writes_with_one_page(tmp_path):
    write(tmp_path / "a.tif", GREY, description="ImageJ=1.53t\nimages=9\nslices=9\nloop=false\n")
    assert read_header(tmp_path / "a.tif").pages == 9


def test_a_ring_of_pages_ends(tmp_path):
    content = bytearray(write(tmp_path / "a.tif", np.stack([GREY] * 2)).read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, second = (page.offset for page in file.pages)
    entries = int.from_bytes(content[second : second + 2], "little")
    end = second + 2 + 12 * entries
    content[end : end + 4] = first.to_bytes(4, "little")
    assert number_of_pages(bytes(content)) == 2


# What is refused, and why.


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.ones((9, 9), np.complex64), {}, "holds complex numbers"),
        (GREY, {"photometric": "cfa"}, "in the colour space of a camera's raw data"),
        (np.stack([GREY] * 4), {"volumetric": True, "photometric": "minisblack"}, "is a volume of 4 layers"),
    ],
)
def test_the_true_reason_is_told(tmp_path, values, options, message):
    path = write(tmp_path / "a.tif", values, **options)
    for read in (read_image, read_mask, read_header):
        with pytest.raises(InputError, match=rf"a\.tif.* {message}"):
            read(path)


@pytest.mark.parametrize(
    ("kind", "photometric", "space"), [(np.uint16, "separated", "CMYK"), (np.uint8, "cielab", "Lab")]
)
def test_channels_that_pillow_would_mix_up(tmp_path, kind, photometric, space):
    values = np.dstack([COLOUR, GREY])[..., : 4 if space == "CMYK" else 3].astype(kind)
    write(tmp_path / "a.tif", np.moveaxis(values, -1, 0), photometric=photometric, planarconfig="separate")
    with pytest.raises(
        InputError, match=rf"a\.tif is a TIFF file in {space} with its channels stored one by one\. Save"
    ):
        read_image(tmp_path / "a.tif")
    assert read_image(write(tmp_path / "b.tif", values, photometric=photometric)).size == (16, 12)


def test_colours_that_pillow_alone_could_read(tmp_path):
    values = np.dstack([COLOUR, GREY]).astype(np.float32)
    path = write(tmp_path / "a.tif", values, photometric="separated")
    with pytest.raises(InputError, match=r"a\.tif is a TIFF file in the colour space CMYK with 4 channels of 32-bit"):
        read_image(path)


def test_a_decoder_that_is_missing_is_named(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    layout = {"driver": "GTiff", "count": 3, "height": 12, "width": 16, "dtype": "float32", "compress": "lzw"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "a.tif", "w", **layout) as new,
    ):
        new.write(np.moveaxis(COLOUR / 255, -1, 0).astype(np.float32))
    assert np.array_equal(pixels(tmp_path / "a.tif"), COLOUR)
    assert np.array_equal(pixels((tmp_path / "a.tif").read_bytes()), COLOUR)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(
        InputError,
        match=r"a\.tif is a compressed TIFF file with 3 channels of 32-bit fractions\. .*'convlora\[geo\]'",
    ):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_cut_files(tmp_path, keep):
    content = write(tmp_path / "a.tif", GREY.astype(np.float64)).read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(keep * len(content))])
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match=r"a\.tif is .*damaged or cut short\. Replace the file\."):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize(("width", "height", "kind", "samples"), [(10**5, 10**5, "f8", 1), (9000, 9000, "u2", 60)])
def test_small_files_of_many_pixels_are_refused_at_once(tmp_path, monkeypatch, width, height, kind, samples):
    """Written sparsely: a header, and not a single value."""
    values = np.zeros((9, 9, samples) if samples > 1 else (9, 9), kind)
    channels = {"planarconfig": "contig"} if samples > 1 else {}
    content = bytearray(write(tmp_path / "a.tif", values, photometric="minisblack", **channels).read_bytes())
    (start,) = struct.unpack("<I", content[4:8])
    for place in range(start + 2, start + 2 + 12 * content[start], 12):
        tag = int.from_bytes(content[place : place + 2], "little")
        if tag in (256, 257, 278):
            content[place : place + 12] = struct.pack("<HHII", tag, 4, 1, width if tag == 256 else height)
    (tmp_path / "a.tif").write_bytes(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(
        InputError, match=rf"a\.tif says that it holds {width} x {height} pixels with {samples} channel"
    ):
        read_image(tmp_path / "a.tif")


def test_a_mask_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    """Its header may state far more channels than that of its image."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.full((50, 60, 3), 9, np.uint8), photometric="rgb", metadata=None)
        mask = np.ones((50, 60, 40), np.uint8)
        file.write(mask, photometric="minisblack", planarconfig="contig", subfiletype=1, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[1].tags["NewSubfileType"].overwrite(4)
    assert read_image(tmp_path / "a.tif").getpixel((0, 0)) == (9, 9, 9)
    free = SimpleNamespace(available=mask.nbytes)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    with pytest.raises(InputError, match=r"a\.tif does not fit into memory"):
        read_image(tmp_path / "a.tif")
