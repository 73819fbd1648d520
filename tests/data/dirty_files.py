"""Image and mask files that are damaged, odd, or not what their names say."""

import io

import numpy as np
from PIL import Image

from tests.data.dirty import LOSSLESS, Case, Data, cut, noise, png_of_size, put


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
    """A file that is no image although it is called one."""

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
QUARTER_TURN = (
    "error: DATA/train/masks/1.png is 16x12 pixels (width x height), but its image DATA/train/images/1.jpg is 12x16. "
    "One of them is turned, perhaps by the orientation that EXIF states; save both upright."
)
OTHER_TURN = (
    "warning: 1 of 5 images are turned or mirrored by EXIF (the first is DATA/train/images/1.jpg), and nothing tells "
    "whether their masks were drawn on them so. Look at one with its mask; if they do not fit, remove the orientation "
    "from the images: exiftool -Orientation= FILES."
)


def of_turn(orientation: int) -> list[str]:
    if orientation in (5, 6, 7, 8):
        return [QUARTER_TURN]
    return [OTHER_TURN] if orientation in (2, 3, 4) else []


def several(suffix: str) -> list[str]:
    return [
        f"warning: 1 of 5 images have several pages or frames (the first is DATA/train/images/1{suffix} with 3), and "
        "only the first is read; 2 are left out. Save those you need as images of their own."
    ]


def unused(channels: str) -> str:
    return (
        f"warning: 1 of 5 images have channels that are not read (the first is DATA/train/images/1.tif with {channels}"
        "): the first three are red, green and blue, or the first one is grey. Save those you need as RGB or grey."
    )


CASES = [
    *[
        Case(
            f"truncated {suffix}",
            truncated(suffix),
            [f"error: DATA/train/images/1{suffix} is damaged or cut short. Replace the file."],
        )
        for suffix in SUFFIXES
    ],
    Case(
        "truncated deflated TIFF",
        truncated(".tif", compression="tiff_deflate"),
        [
            "error: DATA/train/images/1.tif is a TIFF file that is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "truncated LZW TIFF",
        truncated(".tif", compression="tiff_lzw"),
        [
            "error: DATA/train/images/1.tif is a TIFF file that is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "truncated mask",
        lambda data: cut(data.mask(), 0.6),
        [
            "error: DATA/train/masks/1.png is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "one byte of a PNG changed",
        flip_bytes,
        [
            "error: DATA/train/images/1.png is damaged or cut short. Replace the file.",
        ],
    ),
    *[
        Case(f"empty {suffix}", empty(suffix), [f"error: DATA/train/images/1{suffix} is empty. Replace the file."])
        for suffix in SUFFIXES
    ],
    Case("JPEG named .png", content(".png", encoded(Image.fromarray(noise(5)), "JPEG")), []),
    Case("PNG named .jpg", content(".jpg", encoded(Image.fromarray(noise(5)), "PNG")), []),
    Case(
        "text named .png",
        content(".png", b"no image"),
        [
            "error: DATA/train/images/1.png is not an image in a known format. Use PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "HTML named .jpg",
        content(".jpg", b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>"),
        [
            "error: DATA/train/images/1.jpg is a web page, not an image. Download the file again.",
        ],
    ),
    Case(
        "JSON named .png",
        content(".png", b'{"error": "rate limit"}'),
        [
            "error: DATA/train/images/1.png is not an image in a known format. Use PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "Git LFS pointer",
        content(".png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        [
            "error: DATA/train/images/1.png is a pointer of Git LFS, not the image itself. Fetch the images "
            "with: git lfs pull",
        ],
    ),
    Case(
        "PDF named .png",
        content(".png", b"%PDF-1.7\n"),
        [
            "error: DATA/train/images/1.png is a PDF file. Save it as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "SVG named .png",
        content(".png", b'<?xml version="1.0"?><svg xmlns="x"></svg>'),
        [
            "error: DATA/train/images/1.png is an SVG drawing. Save it as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "ZIP named .png",
        content(".png", b"PK\x03\x04" + bytes(30)),
        [
            "error: DATA/train/images/1.png is a ZIP archive. Save it as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "HEIC named .jpg",
        content(".jpg", b"\0\0\0\x18ftypheic" + bytes(30)),
        [
            "error: DATA/train/images/1.jpg is a HEIC file. Save it as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "AVIF named .jpg",
        content(".jpg", b"\0\0\0\x18ftypavif" + bytes(30)),
        [
            "error: DATA/train/images/1.jpg is an AVIF file. Save it as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "JPEG 2000 named .jpg",
        content(".jpg", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30)),
        [
            "error: DATA/train/images/1.jpg is a JPEG 2000 file. Save it as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "animated GIF named .png",
        content(".png", encoded(Image.fromarray(noise(5)), "GIF")),
        [
            "error: DATA/train/images/1.png is a GIF file. Save it as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "PostScript named .png",
        content(".png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"),
        [
            "error: DATA/train/images/1.png is a PostScript file. Save it as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "zeros named .png",
        content(".png", bytes(300)),
        [
            "error: DATA/train/images/1.png is not an image in a known format. Use PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "only a PNG signature",
        content(".png", b"\x89PNG\r\n\x1a\n"),
        [
            "error: DATA/train/images/1.png is a PNG file that is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "only a JPEG signature",
        content(".jpg", b"\xff\xd8\xff\xe0"),
        [
            "error: DATA/train/images/1.jpg is a JPEG file that is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "only a TIFF signature",
        content(".tif", b"II*\0\x08\0\0\0"),
        [
            "error: DATA/train/images/1.tif is a TIFF file that is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "only a WebP signature",
        content(".webp", b"RIFF\x10\0\0\0WEBPVP8 "),
        [
            "error: DATA/train/images/1.webp is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "no width",
        content(".png", png_of_size(0, 12)),
        [
            "error: DATA/train/images/1.png is a PNG file that is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "no height",
        content(".png", png_of_size(16, 0)),
        [
            "error: DATA/train/images/1.png is a PNG file that is damaged or cut short. Replace the file.",
        ],
    ),
    Case(
        "bomb",
        content(".png", png_of_size(60000, 60000)),
        [
            "error: DATA/train/images/1.png is too large: it has more than 178,956,970 pixels. Cut it into tiles.",
        ],
    ),
    Case(
        "too few pixels for the size",
        content(".png", png_of_size(16, 12)),
        [
            "error: DATA/train/images/1.png is damaged or cut short. Replace the file.",
        ],
    ),
    Case("animated PNG", frames(".png"), several(".png")),
    Case("TIFF of several pages", frames(".tif"), several(".tif")),
    Case("animated WebP", frames(".webp"), several(".webp")),
    Case("CMYK JPEG", image(Image.fromarray(noise(5)).convert("CMYK"), ".jpg"), []),
    Case("CMYK TIFF", image(Image.fromarray(noise(5)).convert("CMYK"), ".tif"), []),
    Case("YCbCr TIFF", image(Image.fromarray(noise(5)).convert("YCbCr"), ".tif"), []),
    Case("LAB TIFF", image(Image.new("LAB", (16, 12), (50, 60, 70)), ".tif"), []),
    Case("1-bit", image(noise(5)[..., 0] > 99), []),
    Case("16-bit", image(noise(5)[..., 0].astype(np.uint16) * 257), []),
    Case(
        "16-bit of 12-bit camera",
        image(noise(5)[..., 0].astype(np.uint16) * 16),
        [
            "warning: 1 of 1 16-bit images use less than an eighth of the 16-bit range (the first is "
            "DATA/train/images/1.png) and will look nearly black. Consider --set data.intensity=image.",
        ],
    ),
    Case("32-bit int", image(noise(5)[..., 0].astype(np.int32) * 257, ".tif"), []),
    Case(
        "32-bit int beyond 16 bits",
        image(noise(5)[..., 0].astype(np.int32) * 10**6, ".tif"),
        [
            "warning: DATA/train/images/1.tif has values from 0 to 2.52e+08, whose full range is unknown. "
            "Scale them to 0 to 65535, or train with --set data.intensity=image, which stretches each image's own "
            "range.",
        ],
    ),
    Case(
        "negative int",
        image(noise(5)[..., 0].astype(np.int32) - 9999, ".tif"),
        [
            "warning: DATA/train/images/1.tif has values from -9999 to -9747, whose full range is unknown. "
            "Scale them to 0 to 65535, or train with --set data.intensity=image, which stretches each image's own "
            "range.",
        ],
    ),
    Case("float", floats(0.5), []),
    Case(
        "floats a little above 1 among others",
        fractions_of_two_scales,
        [
            "warning: Float images are divided by what their largest value suggests: 2 by 1 (the first is "
            "DATA/train/images/2.tif) and 1 by 255 (the first is DATA/train/images/1.tif), so that they differ in "
            "brightness. Scale all of them to 0 to 1, or use --set data.intensity=image.",
        ],
    ),
    Case("floats and a black image", fractions_and_a_black_image, []),
    Case("NaN", floats(np.nan), []),
    Case("infinity", floats(np.inf), []),
    Case(
        "negative float",
        floats(-0.25),
        [
            "warning: DATA/train/images/1.tif has values from -0.25 to 1, whose full range is unknown. "
            "Scale them to 0 to 65535, or train with --set data.intensity=image, which stretches each image's own "
            "range.",
        ],
    ),
    Case(
        "nothing but NaN",
        image(np.full((12, 16), np.nan, np.float32), ".tif"),
        [
            "error: DATA/train/images/1.tif holds nothing but NaN, infinite or missing values. Replace the file.",
        ],
    ),
    Case(
        "two channels of 8 bits",
        channels(2),
        [
            unused("1 more channel"),
        ],
    ),
    Case(
        "five channels of 8 bits",
        channels(5),
        [
            unused("2 more channels"),
        ],
    ),
    Case(
        "three channels of 16 bits",
        channels(3, "H"),
        [],
    ),
    Case(
        "five channels of 16 bits",
        channels(5, "H"),
        [
            unused("2 more channels"),
        ],
    ),
    Case("alpha", with_alpha, []),
    Case("grey with alpha", image(noise(5)[..., :2]), []),
    Case("palette with transparency", palette_with_transparency, []),
    Case("one pixel", tiny, []),
    *[Case(f"EXIF orientation {turn}", rotated(turn), of_turn(turn)) for turn in range(10)],
]
