"""Image and mask files that are damaged, odd, or not what their names say."""

import io

import numpy as np
from PIL import Image

from tests.data.dirty import LOSSLESS, Case, Data, Finding, cut, deep_png, error, noise, png_of_size, put, warning


def truncated(suffix: str, **options: object):
    def spoil(data: Data) -> None:
        cut(data.put_image(noise(5), suffix, **{**LOSSLESS.get(suffix, {}), **options}))

    return spoil


def empty(suffix: str):
    def spoil(data: Data) -> None:
        data.image().unlink()
        data.image(f"1{suffix}").touch()

    return spoil


def content(suffix: str, first: bytes):
    """A file of these bytes in place of an image."""

    def spoil(data: Data) -> None:
        data.image().unlink()
        data.image(f"1{suffix}").write_bytes(first)

    return spoil


def image(values, suffix: str = ".png", **options: object):
    return lambda data: data.put_image(values, suffix, **options)


def encoded(picture: Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format_, **options)
    return stream.getvalue()


def rotated(orientation: int):
    """A photograph whose EXIF tag turns it, with a mask that was drawn on the pixels as they are stored."""

    def spoil(data: Data) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data.put_image(noise(5), ".jpg", exif=exif)

    return spoil


def flip_bytes(data: Data) -> None:
    path = data.put_image(noise(5, 40, 40))
    data.put_mask(np.resize(np.array([0, 1], np.uint8), (40, 40)))
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 255
    path.write_bytes(bytes(changed))


def channels(count: int, depth: str = "B"):
    """A TIFF file of many channels, as satellites make them."""
    values = np.arange(12 * 16 * count, dtype=np.uint8 if depth == "B" else np.uint16)
    bits = 8 if depth == "B" else 16

    def spoil(data: Data) -> None:
        import struct

        entries = [
            (256, 3, 1, 16), (257, 3, 1, 12), (258, 3, count, 0), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0),
            (277, 3, 1, count), (278, 3, 1, 12), (279, 4, 1, values.nbytes),
        ]  # fmt: skip
        end = 8 + 2 + 12 * len(entries) + 4
        # Two shorts fit into the entry itself.
        places = {258: end if count > 2 else bits | bits << 16, 273: end + 2 * count}
        raw = b"II*\0" + struct.pack("<IH", 8, len(entries))
        for tag, kind, number, value in entries:
            raw += struct.pack("<HHII", tag, kind, number, places.get(tag, value))
        raw += struct.pack("<I", 0) + struct.pack(f"<{count}H", *[bits] * count) + values.tobytes()
        content(".tif", raw)(data)

    return spoil


def frames(suffix: str):
    others = [Image.fromarray(noise(seed)) for seed in (6, 7)]
    return image(noise(5), suffix, save_all=True, append_images=others)


def with_alpha(data: Data) -> None:
    data.put_image(np.dstack([noise(5), np.resize(np.array([0, 99], np.uint8), (12, 16))]))


def palette_with_transparency(data: Data) -> None:
    data.put_image(Image.fromarray(noise(5)).quantize(16), transparency=bytes([0, 9, 255]))


FLOATS = np.linspace(0, 1, 192, dtype=np.float32).reshape(12, 16)


def floats(first: float):
    values = FLOATS.copy()
    values[0, 0] = first
    return image(values, ".tif")


def fractions_of_two_scales(data: Data) -> None:
    data.put_image(FLOATS * 1.02, ".tif")
    data.image("2.png").unlink()
    put(data.image("2.tif"), FLOATS)
    data.image("3.png").unlink()
    put(data.image("3.tif"), FLOATS / 2)


def fractions_and_a_black_image(data: Data) -> None:
    data.put_image(FLOATS * 200, ".tif")
    data.image("2.png").unlink()
    put(data.image("2.tif"), FLOATS * 0)


def tiny(data: Data) -> None:
    data.put_image(noise(5, 1, 1))
    data.put_mask(np.zeros((1, 1), np.uint8))


SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp")
QUARTER_TURN = error("size-mismatch", "train/masks/1.png", "16x12", "12x16", "turned", "train/images/1.jpg")
OTHER_TURN = warning("turned-image", "train/images/1.jpg", "1 of 5", "EXIF")


def of_turn(orientation: int) -> list[Finding]:
    if orientation in (5, 6, 7, 8):
        return [QUARTER_TURN]
    return [OTHER_TURN] if orientation in (2, 3, 4) else []


CASES = [
    *[
        Case(
            f"truncated {suffix}",
            truncated(suffix),
            [error("unreadable", f"train/images/1{suffix}", "damaged")],
        )
        for suffix in SUFFIXES
    ],
    Case(
        "truncated deflated TIFF",
        truncated(".tif", compression="tiff_deflate"),
        [error("unreadable", "train/images/1.tif", "TIFF", "damaged")],
    ),
    Case(
        "truncated LZW TIFF",
        truncated(".tif", compression="tiff_lzw"),
        [error("unreadable", "train/images/1.tif", "TIFF", "damaged")],
    ),
    Case(
        "truncated mask",
        lambda data: cut(data.mask(), 0.6),
        [error("unreadable", "train/masks/1.png", "damaged")],
    ),
    Case(
        "one byte of a PNG changed",
        flip_bytes,
        [error("unreadable", "train/images/1.png", "damaged")],
    ),
    *[
        Case(f"empty {suffix}", empty(suffix), [error("unreadable", f"train/images/1{suffix}", "empty")])
        for suffix in SUFFIXES
    ],
    Case("JPEG named .png", content(".png", encoded(Image.fromarray(noise(5)), "JPEG")), []),
    Case("PNG named .jpg", content(".jpg", encoded(Image.fromarray(noise(5)), "PNG")), []),
    Case(
        "text named .png",
        content(".png", b"no image"),
        [error("unreadable", "train/images/1.png", "known format")],
    ),
    Case(
        "HTML named .jpg",
        content(".jpg", b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>"),
        [error("unreadable", "train/images/1.jpg", "web page")],
    ),
    Case(
        "JSON named .png",
        content(".png", b'{"error": "rate limit"}'),
        [error("unreadable", "train/images/1.png", "known format")],
    ),
    Case(
        "Git LFS pointer",
        content(".png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        [error("unreadable", "train/images/1.png", "git lfs pull")],
    ),
    Case(
        "PDF named .png",
        content(".png", b"%PDF-1.7\n"),
        [error("unreadable", "train/images/1.png", "PDF")],
    ),
    Case(
        "SVG named .png",
        content(".png", b'<?xml version="1.0"?><svg xmlns="x"></svg>'),
        [error("unreadable", "train/images/1.png", "SVG")],
    ),
    Case(
        "ZIP named .png",
        content(".png", b"PK\x03\x04" + bytes(30)),
        [error("unreadable", "train/images/1.png", "ZIP")],
    ),
    Case(
        "HEIC named .jpg",
        content(".jpg", b"\0\0\0\x18ftypheic" + bytes(30)),
        [error("unreadable", "train/images/1.jpg", "HEIC")],
    ),
    Case(
        "AVIF named .jpg",
        content(".jpg", b"\0\0\0\x18ftypavif" + bytes(30)),
        [error("unreadable", "train/images/1.jpg", "AVIF")],
    ),
    Case(
        "JPEG 2000 named .jpg",
        content(".jpg", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30)),
        [error("unreadable", "train/images/1.jpg", "JPEG 2000")],
    ),
    Case(
        "animated GIF named .png",
        content(".png", encoded(Image.fromarray(noise(5)), "GIF")),
        [error("unreadable", "train/images/1.png", "GIF")],
    ),
    Case(
        "PostScript named .png",
        content(".png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"),
        [error("unreadable", "train/images/1.png", "PostScript")],
    ),
    Case(
        "zeros named .png",
        content(".png", bytes(300)),
        [error("unreadable", "train/images/1.png", "known format")],
    ),
    Case(
        "only a PNG signature",
        content(".png", b"\x89PNG\r\n\x1a\n"),
        [error("unreadable", "train/images/1.png", "PNG", "damaged")],
    ),
    Case(
        "only a JPEG signature",
        content(".jpg", b"\xff\xd8\xff\xe0"),
        [error("unreadable", "train/images/1.jpg", "JPEG", "damaged")],
    ),
    Case(
        "only a TIFF signature",
        content(".tif", b"II*\0\x08\0\0\0"),
        [error("unreadable", "train/images/1.tif", "TIFF", "damaged")],
    ),
    Case(
        "only a WebP signature",
        content(".webp", b"RIFF\x10\0\0\0WEBPVP8 "),
        [error("unreadable", "train/images/1.webp", "damaged")],
    ),
    Case(
        "no width",
        content(".png", png_of_size(0, 12)),
        [error("unreadable", "train/images/1.png", "PNG", "damaged")],
    ),
    Case(
        "no height",
        content(".png", png_of_size(16, 0)),
        [error("unreadable", "train/images/1.png", "PNG", "damaged")],
    ),
    Case(
        "bomb",
        content(".png", png_of_size(60000, 60000)),
        [error("unreadable", "train/images/1.png", "too large", "178,956,970")],
    ),
    Case(
        "too few pixels for the size",
        content(".png", png_of_size(16, 12)),
        [error("unreadable", "train/images/1.png", "damaged")],
    ),
    Case(
        "animated PNG", frames(".png"), [warning("unused-pages", "train/images/1.png", "1 of 5 images", "pages", "3")]
    ),
    Case(
        "TIFF of several pages",
        frames(".tif"),
        [warning("unused-pages", "train/images/1.tif", "1 of 5 images", "pages", "3")],
    ),
    Case(
        "animated WebP",
        frames(".webp"),
        [warning("unused-pages", "train/images/1.webp", "1 of 5 images", "pages", "3")],
    ),
    Case("CMYK JPEG", image(Image.fromarray(noise(5)).convert("CMYK"), ".jpg"), []),
    Case("CMYK TIFF", image(Image.fromarray(noise(5)).convert("CMYK"), ".tif"), []),
    Case("YCbCr TIFF", image(Image.fromarray(noise(5)).convert("YCbCr"), ".tif"), []),
    Case("LAB TIFF", image(Image.new("LAB", (16, 12), (50, 60, 70)), ".tif"), []),
    Case("1-bit", image(noise(5)[..., 0] > 99), []),
    Case("16-bit", image(noise(5)[..., 0].astype(np.uint16) * 257), []),
    Case(
        "16-bit of 12-bit camera",
        image(noise(5)[..., 0].astype(np.uint16) * 16),
        [warning("dark-16-bit", "train/images/1.png", "1 of 1", "data.intensity=image")],
    ),
    Case("16-bit colours", content(".png", deep_png(noise(5).astype(np.uint16) * 257)), []),
    Case(
        "16-bit colours of a 12-bit camera",
        content(".png", deep_png(noise(5).astype(np.uint16) * 16)),
        [warning("dark-16-bit", "train/images/1.png", "1 of 1", "data.intensity=image")],
    ),
    Case("32-bit int", image(noise(5)[..., 0].astype(np.int32) * 257, ".tif"), []),
    Case(
        "32-bit int beyond 16 bits",
        image(noise(5)[..., 0].astype(np.int32) * 10**6, ".tif"),
        [warning("unknown-range", "train/images/1.tif", "0", "2.52e+08", "data.intensity=image")],
    ),
    Case(
        "negative int",
        image(noise(5)[..., 0].astype(np.int32) - 9999, ".tif"),
        [warning("unknown-range", "train/images/1.tif", "-9999", "-9747", "data.intensity=image")],
    ),
    Case("float", floats(0.5), []),
    Case(
        "floats a little above 1 among others",
        fractions_of_two_scales,
        [
            warning(
                "different-scales",
                "train/images/1.tif",
                "2 by 1",
                "1 by 255",
                "data.intensity=image",
                "train/images/2.tif",
            )
        ],
    ),
    Case("floats and a black image", fractions_and_a_black_image, []),
    Case("NaN", floats(np.nan), []),
    Case("infinity", floats(np.inf), []),
    Case(
        "negative float",
        floats(-0.25),
        [warning("unknown-range", "train/images/1.tif", "-0.25", "1", "data.intensity=image")],
    ),
    Case(
        "nothing but NaN",
        image(np.full((12, 16), np.nan, np.float32), ".tif"),
        [error("unreadable", "train/images/1.tif", "NaN")],
    ),
    Case(
        "two channels of 8 bits",
        channels(2),
        [warning("unused-channels", "train/images/1.tif", "1 of 5", "1 more channel", "channels")],
    ),
    Case(
        "five channels of 8 bits",
        channels(5),
        [warning("unused-channels", "train/images/1.tif", "1 of 5", "2 more channels", "channels")],
    ),
    Case(
        "three channels of 16 bits",
        channels(3, "H"),
        [],
    ),
    Case(
        "five channels of 16 bits",
        channels(5, "H"),
        [warning("unused-channels", "train/images/1.tif", "1 of 5", "2 more channels", "channels")],
    ),
    Case("alpha", with_alpha, []),
    Case("grey with alpha", image(noise(5)[..., :2]), []),
    Case("palette with transparency", palette_with_transparency, []),
    Case("one pixel", tiny, []),
    *[Case(f"EXIF orientation {turn}", rotated(turn), of_turn(turn)) for turn in range(10)],
]
