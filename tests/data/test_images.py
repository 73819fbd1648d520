import contextlib
import io
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, TiffImagePlugin

from convlora.data.reading import eight_bits
from convlora.data.reading.colours import describe_value, grey_of, without_grey
from convlora.data.reading.images import (
    IMAGE_SUFFIXES,
    brightest_of_sixteen_bits,
    is_deep,
    is_image_file,
    read_for_size,
    read_image,
    read_image_size,
    read_mask,
)
from convlora.errors import InputError
from tests.data.dirty import deep_png, png
from tests.data.images_on_disk import noise, save

GREY = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
COLOUR = noise(0)


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(path, **options):
    values = pixels(read_image(path, **options))
    assert np.array_equal(values[..., 0], values[..., 1])
    assert np.array_equal(values[..., 0], values[..., 2])
    return values[..., 0]


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".PNG", ".Jpg"])
def test_every_format_is_read(tmp_path, suffix):
    smooth = np.repeat(GREY[..., None], 3, axis=2)
    options = {"lossless": True} if suffix == ".webp" else {"quality": 100} if suffix.lower().startswith(".jp") else {}
    path = save(tmp_path / f"a{suffix}", smooth, **options)
    assert np.abs(pixels(read_image(path)).astype(int) - smooth).max() <= 2
    assert read_image_size(path) == (12, 16)
    assert is_image_file(path)


def test_what_is_not_an_image_file(tmp_path):
    assert not is_image_file(tmp_path / "Thumbs.db")
    assert not is_image_file(tmp_path / "._a.png")


def test_eight_bit_grey(tmp_path):
    assert np.array_equal(grey(save(tmp_path / "a.png", GREY)), GREY)


def test_one_bit(tmp_path):
    path = save(tmp_path / "a.png", GREY > 90)
    assert np.array_equal(grey(path), np.where(GREY > 90, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_by_the_type_or_by_the_image(tmp_path, suffix):
    values = (GREY.astype(np.uint16) * 16) + 100
    path = save(tmp_path / f"a{suffix}", values)
    assert np.array_equal(grey(path), np.rint(values / 257).astype(np.uint8))
    stretched = grey(path, intensity="image")
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert np.array_equal(stretched, np.rint((values - 100) * (255 / (values.max() - 100))).astype(np.uint8))


def test_big_endian_sixteen_bits(tmp_path):
    values = GREY.astype(np.uint16) * 257
    header = b"II*\0"
    buffer = io.BytesIO()
    Image.frombytes("I;16B", (16, 12), values.astype(">u2").tobytes()).save(buffer, format="TIFF")
    assert buffer.getvalue()[:4] != header
    assert np.array_equal(grey(buffer.getvalue()), GREY)
    assert np.array_equal(read_mask(buffer.getvalue()), values)
    assert read_mask(buffer.getvalue()).dtype == np.dtype(np.uint16)


def test_thirty_two_bit_integers(tmp_path):
    path = save(tmp_path / "a.tif", GREY.astype(np.int32) * 257)
    assert np.array_equal(grey(path), GREY)
    beyond = save(tmp_path / "b.tif", GREY.astype(np.int32) * 100_000)
    with pytest.raises(InputError, match=r"b\.tif has values .*data\.intensity=image"):
        read_image(beyond)
    assert grey(beyond, intensity="image").max() == 255


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0])
def test_floats_by_their_usual_ranges(tmp_path, scale):
    path = save(tmp_path / "a.tif", (GREY / 191 * scale).astype(np.float32))
    assert np.abs(grey(path).astype(int) - np.rint(GREY / 191 * 255)).max() <= 1


def test_floats_below_zero_or_not_finite(tmp_path):
    path = save(tmp_path / "a.tif", GREY.astype(np.float32) - 5)
    with pytest.raises(InputError, match="values from -5 to 186"):
        read_image(path)
    values = GREY.astype(np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    assert grey(save(tmp_path / "b.tif", values))[0, :2].tolist() == [0, 0]
    assert grey(save(tmp_path / "b.tif", values), intensity="image")[-1, -1] == 255


def test_pixels_without_data_neither_stretch_nor_show(tmp_path):
    values = GREY.astype(np.float32) / 400
    values[3, 4:9] = -9999
    path = save(tmp_path / "a.tif", values, tiffinfo={42113: "-9999"})
    for intensity, low, high in (("type", 0, 1), ("image", 0, 191 / 400)):
        expected = np.where(values == -9999, 0, np.rint((values.astype(float) - low) / (high - low) * 255))
        assert np.abs(grey(path, intensity=intensity) - expected).max() <= 1
    deep = np.where(GREY < 9, 65535, GREY.astype(np.uint16))
    assert brightest_of_sixteen_bits(save(tmp_path / "b.tif", deep, tiffinfo={42113: "65535"})) == 191
    assert brightest_of_sixteen_bits(save(tmp_path / "c.tif", deep * 0 + 7, tiffinfo={42113: "7"})) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_without_data_are_turned_too(tmp_path, orientation):
    path = save(tmp_path / "a.tif", GREY, tiffinfo={42113: "77", 274: orientation})
    assert np.array_equal(grey(path), turned(np.where(GREY == 77, 0, GREY), orientation))


@pytest.mark.parametrize("value", [77, 77.0, (77, 77), b"77", "seventy"])
def test_what_marks_no_pixels(tmp_path, value):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = value
    if isinstance(value, bytes):
        tags.tagtype[42113] = 7
    assert np.array_equal(grey(save(tmp_path / "a.tif", GREY, tiffinfo=tags)), GREY)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("turn", [1, 6])
def test_deep_colours_are_stretched_before_they_become_eight_bits(tmp_path, channels, turn):
    """Of 12 bits in 16, the upper byte holds 16 levels."""
    values = np.random.default_rng(0).integers(100, 4000, (12, 16, channels)).astype(np.uint16)
    values[0, 0, 0], values[0, 1, 0] = 100, 4000
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    stored = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(stored)) + b"eXIf" + stored + struct.pack(">I", zlib.crc32(b"eXIf" + stored))
    file, whole = tmp_path / "a.png", deep_png(values)
    file.write_bytes(whole[:33] + chunk + whole[33:])  # behind the header
    colours = np.repeat(values[..., :1], 3, axis=-1) if channels == 2 else values[..., :3]
    colours = np.rot90(colours, -1) if turn == 6 else colours
    expected = (colours - 100) / 3900 * 255
    with Image.open(file) as opened:
        for source in (file, str(file), file.read_bytes(), opened):
            assert np.abs(np.asarray(read_image(source, "image")) - expected).max() <= 0.5 + 1e-6
    assert np.array_equal(np.asarray(read_image(file, "type")), colours >> 8)
    assert is_deep(file)
    assert brightest_of_sixteen_bits(file) == 4000


def test_deep_colours_without_an_end_are_read(tmp_path):
    values = np.random.default_rng(0).integers(0, 4000, (12, 16, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(values)[:-12])
    assert brightest_of_sixteen_bits(tmp_path / "a.png") == values.max()


def test_a_damaged_file_of_deep_colours_is_refused_by_name(tmp_path):
    file = tmp_path / "a.png"
    whole = deep_png(np.full((64, 64, 3), 999, np.uint16))
    for kept in (whole[:60], whole[: len(whole) // 2], whole[:50] + b"\0\0\0" + whole[53:]):
        file.write_bytes(kept)
        for intensity in ("type", "image"):
            with pytest.raises(InputError, match=r"a\.png"):
                read_image(file, intensity)


def test_intensity_image_also_stretches_eight_bits_and_bears_flat_images(tmp_path):
    path = save(tmp_path / "a.png", COLOUR // 8)
    assert pixels(read_image(path, "image")).max() == 255
    assert pixels(read_image(save(tmp_path / "b.png", COLOUR * 0 + 7), "image")).max() == 0
    with pytest.raises(InputError, match="'max'"):
        read_image(path, "max")


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.fromarray(COLOUR).quantize(16)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", transparency=bytes([0] + [255] * 15))
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(read_image(tmp_path / "a.png")), expected)
    assert np.array_equal(pixels(read_image(tmp_path / "b.png")), expected)


def test_alpha_is_dropped_and_colours_stay(tmp_path):
    alpha = np.linspace(0, 255, 12 * 16).astype(np.uint8).reshape(12, 16, 1)
    path = save(tmp_path / "a.png", np.concatenate([COLOUR, alpha], axis=2))
    assert np.array_equal(pixels(read_image(path)), COLOUR)
    path = save(tmp_path / "b.png", np.concatenate([GREY[..., None], alpha], axis=2))
    assert np.array_equal(grey(path), GREY)


def test_cmyk_jpeg(tmp_path):
    flat = Image.new("RGB", (16, 12), (200, 40, 90))
    flat.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(read_image(tmp_path / "a.jpg")).astype(int) - (200, 40, 90)).max() <= 6


def turned(values, orientation):
    """What a viewer shows of stored values with an EXIF orientation, written out independently of Pillow."""
    return {
        1: lambda v: v,
        2: np.fliplr,
        3: lambda v: np.rot90(v, 2),
        4: np.flipud,
        5: lambda v: np.swapaxes(v, 0, 1),
        6: lambda v: np.rot90(v, -1),
        7: lambda v: np.rot90(np.swapaxes(v, 0, 1), 2),
        8: lambda v: np.rot90(v, 1),
    }[orientation](values)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    options = (
        {"lossless": True} if suffix == ".webp" else {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    )
    stored = np.repeat(GREY[..., None], 3, axis=2)
    Image.fromarray(stored).save(path, exif=exif, **options)
    expected = turned(stored, orientation)
    result = pixels(read_image(path))
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected).max() <= 3
    assert read_image_size(path) == expected.shape[:2]
    if suffix != ".jpg":
        assert np.array_equal(read_mask(path) & 255, expected[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_grey_tiffs_are_turned_too(tmp_path, kind, orientation):
    """Pillow maps these into memory, and mixed up the pixels of those that lie on their side."""
    path = save(tmp_path / "a.tif", GREY.astype(kind), tiffinfo={274: orientation})
    assert np.array_equal(read_mask(path), turned(GREY, orientation))
    assert np.array_equal(read_mask(path.read_bytes()), turned(GREY, orientation))


def test_size_comes_from_the_header_alone(tmp_path):
    for suffix in (".png", ".jpg", ".bmp"):  # not .tif, whose directory may stand behind the pixels
        path = save(tmp_path / f"a{suffix}", noise(0, 300, 400))
        path.write_bytes(path.read_bytes()[:2000])
        assert read_image_size(path) == (300, 400)


def test_first_page_of_several(tmp_path):
    first, second = Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)
    for suffix in (".tif", ".webp", ".png"):
        path = tmp_path / f"a{suffix}"
        options = {"lossless": True} if suffix == ".webp" else {}
        first.save(path, save_all=True, append_images=[second], **options)
        assert np.array_equal(pixels(read_image(path)), COLOUR)


def test_several_pictures_in_a_jpeg_as_phones_write_them(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16, 12), (200, 40, 90)).save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 6))])
    assert np.abs(pixels(read_image(path)).astype(int) - (200, 40, 90)).max() <= 3
    assert read_image_size(path) == (12, 16)


@pytest.mark.parametrize("intensity", ["type", "image"])
@pytest.mark.parametrize("kind", [np.float32, np.uint16, np.uint8])
def test_intensities_are_those_of_the_whole_image(tmp_path, monkeypatch, kind, intensity):
    """The rule written out for all values at once; the reader goes a few rows at a time."""
    monkeypatch.setattr(eight_bits, "PIECE", 70)
    values = (COLOUR if kind == np.uint8 else GREY.astype(kind) * 200)[:11]
    if kind == np.float32:
        values[0, :2] = np.nan, np.inf
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    finite = np.isfinite(values)
    low, high = values[finite].min(), values[finite].max()
    if intensity == "type":
        low, high = 0, {np.uint8: 255, np.uint16: 65535, np.float32: 65535}[kind]
    fractions = (np.where(finite, values, low).astype(float) - low) / (float(high) - low)
    expected = np.broadcast_to(np.rint(255 * fractions).reshape(11, 16, -1), (11, 16, 3))
    assert np.abs(pixels(read_image(path, intensity)) - expected).max() == 0


def test_an_image_that_the_caller_opened_is_left_alone():
    image = Image.fromarray(COLOUR)
    image.getexif()[0x0112] = 6
    turned = read_image(image)
    assert (image.size, turned.size) == ((16, 12), (12, 16))
    assert np.array_equal(np.asarray(image), COLOUR)


def test_bytes_and_open_images_are_read_too(tmp_path):
    path = save(tmp_path / "a.png", COLOUR)
    assert np.array_equal(pixels(read_image(path.read_bytes())), COLOUR)
    assert np.array_equal(pixels(read_image(Image.fromarray(COLOUR))), COLOUR)
    assert np.array_equal(pixels(read_image(str(path))), COLOUR)


@pytest.mark.parametrize("read", [read_image, read_mask, read_image_size])
def test_files_that_cannot_be_read_are_named(tmp_path, read):
    empty = tmp_path / "empty.png"
    empty.touch()
    text = tmp_path / "text.jpg"
    text.write_text("not an image at all")
    for path in (empty, text, tmp_path / "absent.png", tmp_path):
        with pytest.raises(InputError, match=re.escape(str(path))):
            read(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_truncated_files_are_named(tmp_path, suffix, read):
    path = save(tmp_path / f"cut{suffix}", np.repeat(COLOUR[..., :1], 3, axis=2))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=re.escape(str(path))):
        read(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None, max_examples=60)
@given(suffix=st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]), seed=st.integers(0, 10_000))
def test_damaged_bytes_give_an_image_or_an_input_error(suffix, seed):
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, format=suffix)
    rng = np.random.default_rng(seed)
    data = bytearray(buffer.getvalue())
    for position in rng.integers(0, len(data), 8):
        data[position] = rng.integers(256)
    for read in (read_image, read_image_size, read_mask):
        with contextlib.suppress(InputError):
            read(bytes(data))


def test_formats_that_start_other_programs_are_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(InputError, match="PNG, JPEG, TIFF, BMP or WebP"):
        read_image(path)


def test_decompression_bombs_are_input_errors(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", COLOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(InputError, match=r"a\.png is too large"):
        read_image(path)


def test_masks_of_every_mode_keep_their_values(tmp_path):
    indices = (GREY % 5).astype(np.uint8)
    palette = Image.fromarray(indices).convert("P")
    palette.putdata(indices.ravel().tolist())
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 7, 7, 7])
    palette.save(tmp_path / "p.png")
    files = {
        "l.png": indices,
        "l.bmp": indices,
        "i16.png": indices.astype(np.uint16) * 1000,
        "i16.tif": indices.astype(np.uint16) * 1000,
        "i.tif": indices.astype(np.int32) * 100_000,
        "f.tif": indices.astype(np.float32),
    }
    for name, values in files.items():
        mask = read_mask(save(tmp_path / name, values))
        assert np.issubdtype(mask.dtype, np.integer)
        assert np.array_equal(mask, values if values.ndim == 2 else 1 << 24 | values[..., 0].astype(int) * 0x10101), (
            name
        )
    assert np.array_equal(read_mask(tmp_path / "p.png"), indices)
    opaque = np.full_like(indices, 255)
    assert np.array_equal(read_mask(save(tmp_path / "la.png", np.stack([indices, opaque], 2))), indices)


def test_one_bit_masks_are_0_and_1(tmp_path):
    mask = read_mask(save(tmp_path / "a.png", GREY > 90))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, GREY > 90)


def test_masks_with_fractions_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", GREY.astype(np.float32) / 2)
    with pytest.raises(InputError, match=r"a\.tif is a mask with fractions"):
        read_mask(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_become_numbers(tmp_path, mode):
    pixels = np.array([[[7, 7, 7], [255, 0, 0], [0, 0, 7]]], dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png")
    assert mask.tolist() == [[(1 << 24) + 7 * 0x10101, (1 << 24) + (255 << 16), (1 << 24) + 7]]
    assert [describe_value(value) for value in mask[0].tolist()] == ["(7, 7, 7)", "(255, 0, 0)", "(0, 0, 7)"]
    assert [grey_of(value) for value in mask[0].tolist()] == [7, None, None]
    assert without_grey(mask[0].tolist()) == {7, mask[0, 1], mask[0, 2]}


GREY_PNG, COLOUR_PNG, GREY_ALPHA_PNG, COLOUR_ALPHA_PNG = 0, 2, 4, 6


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_masks_of_few_bits_hold_indices(tmp_path, depth):
    """Decoders spread such values over 0 to 255, which is right for pictures only."""
    packed = np.arange(12, dtype=np.uint8).reshape(3, 4) * 21
    digits = np.unpackbits(packed, axis=1).reshape(3, -1, depth)
    indices = digits @ (1 << np.arange(depth)[::-1])
    path = tmp_path / "a.png"
    path.write_bytes(png(indices.shape[1], 3, depth, GREY_PNG, packed))
    assert np.array_equal(read_mask(path), indices)
    assert np.array_equal(read_mask(path.read_bytes()), indices)
    with Image.open(path) as opened:
        assert np.array_equal(read_mask(opened), indices)
    assert np.array_equal(grey(path), indices * (255 // (2**depth - 1)))


@pytest.mark.parametrize("compress", ["none", "lzw"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_tiff_masks_of_few_bits_hold_indices(tmp_path, depth, compress):
    rasterio = pytest.importorskip("rasterio")
    indices = GREY % 2**depth
    layout = {"driver": "GTiff", "count": 1, "height": 12, "width": 16, "dtype": "uint8", "compress": compress}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "a.tif", "w", nbits=depth, **layout) as new,
    ):
        new.write(indices[None])
    assert np.array_equal(read_mask(tmp_path / "a.tif"), indices)


@pytest.mark.parametrize(("colour_type", "channels"), [(COLOUR_PNG, 3), (GREY_ALPHA_PNG, 2), (COLOUR_ALPHA_PNG, 4)])
def test_masks_of_several_channels_of_16_bits_are_refused(tmp_path, colour_type, channels):
    """Of an index 3 in them only the upper byte, 0, would be left."""
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 3, 16, colour_type, np.resize(np.array([0, 3], np.uint8), (3, 2 * 2 * channels))))
    with pytest.raises(InputError, match=r"a\.png is a mask of several channels of 16 bits.*8-bit or 16-bit PNG"):
        read_mask(path)
    assert read_image(path).size == (2, 3)


def test_tiff_masks_of_16_bits_in_colour_are_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    layout = {"driver": "GTiff", "count": 3, "height": 12, "width": 16, "dtype": "uint16", "photometric": "rgb"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "a.tif", "w", **layout) as new,
    ):
        new.write(np.ones((3, 12, 16), np.uint16))
    with pytest.raises(InputError, match=r"a\.tif is a mask of several channels of 16 bits"):
        read_mask(tmp_path / "a.tif")


def photograph(height, width):
    """Smooth shapes with sharp borders and some noise, as of a camera."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / height
    shapes = np.stack(
        [np.sin(9 * x + 4 * y * k) + (((x - 0.6) ** 2 + (y - 0.4) ** 2) < 0.05 * k) for k in (1, 2, 3)], -1
    )
    return (255 * (shapes + 1) / 3 + rng.normal(0, 6, shapes.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("own", "size", "decoded"),
    [
        ((480, 640), (64, 64), (240, 320)),  # 1/4 would leave 120, less than twice 64
        ((480, 640), (60, 64), (120, 160)),
        ((480, 640), (128, 128), (480, 640)),  # 1/2 would leave 240, less than twice 128
        ((480, 640), (120, 160), (240, 320)),
        ((2000, 2000), (64, 64), (250, 250)),
    ],
)
def test_large_photographs_are_decoded_at_a_fraction(tmp_path, own, size, decoded):
    Image.fromarray(photograph(*own)).save(tmp_path / "a.jpg", quality=92)
    image, own_size = read_for_size(tmp_path / "a.jpg", size)
    assert own_size == own
    assert all(side >= 2 * wanted for side, wanted in zip((image.height, image.width), size, strict=True))
    assert (image.height, image.width) == decoded
    whole = read_image(tmp_path / "a.jpg")
    assert (whole.height, whole.width) == own
    shrunk, expected = (np.asarray(one.resize(size[::-1], Image.Resampling.BILINEAR), int) for one in (image, whole))
    assert np.abs(shrunk - expected).mean() < 0.5, "of 255"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_turned_photographs_at_a_fraction(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photograph(480, 640)).save(tmp_path / "a.jpg", exif=exif, quality=92)
    whole = read_image(tmp_path / "a.jpg")
    size = (60, 80) if whole.width > whole.height else (80, 60)
    image, own_size = read_for_size(tmp_path / "a.jpg", size)
    assert own_size == (whole.height, whole.width)
    assert (image.height, image.width) == (2 * size[0], 2 * size[1])
    shrunk, expected = (np.asarray(one.resize(size[::-1], Image.Resampling.BILINEAR), int) for one in (image, whole))
    assert np.abs(shrunk - expected).mean() < 0.5


def test_what_is_always_decoded_whole(tmp_path):
    Image.fromarray(photograph(480, 640)).save(tmp_path / "a.jpg")
    Image.fromarray(photograph(480, 640)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.jpg") as opened:
        for source, intensity in ((tmp_path / "a.png", "type"), (tmp_path / "a.jpg", "image"), (opened, "type")):
            image, own_size = read_for_size(source, (16, 16), intensity)
            assert (image.height, image.width) == own_size == (480, 640)
