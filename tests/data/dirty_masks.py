"""Masks that do not fit their images, hold strange values, or leave nothing to learn."""

import numpy as np
import tifffile
from PIL import Image

from tests.data.dirty import MASKS, Case, Data, coloured, error, noise, png, put, stripes, warning

TWO = {"classes": ["background", "crack"]}
THREE = {"classes": ["sky", "road", "car"]}
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)


def mask(values, suffix: str = ".png", **options: object):
    return lambda data: data.put_mask(values, suffix, **options)


def masks(values, suffix: str = ".png", **options: object):
    return lambda data: data.put_masks(values, suffix, **options)


def blocks() -> np.ndarray:
    """Zeros and ones that JPEG leaves as they are."""
    values = np.zeros((12, 16), np.uint8)
    values[:8, :8] = 1
    return values


def jpeg_named_png(data: Data) -> None:
    picture = Image.fromarray(blocks())
    picture.save(data.mask(), "JPEG", quality=95)


def indexed(*colours: tuple[int, int, int], values=(0, 1)) -> Image.Image:
    picture = Image.fromarray(stripes(*values)).convert("P")
    picture.putpalette([part for colour in colours for part in colour])
    return picture


def palettes(*pictures: Image.Image):
    def spoil(data: Data) -> None:
        for number, picture in enumerate(pictures):
            put(data.mask(f"{number}.png"), picture)

    return spoil


def written(content: bytes):
    return lambda data: data.mask().write_bytes(content)


def named(classes: object, spoil):
    def both(data: Data) -> None:
        spoil(data)
        data.classes(classes)

    return both


def in_val(values):
    return lambda data: put(data.mask("0.png", "val"), values)


def palette(data: Data) -> None:
    """Indices of a palette count, not its colours."""
    picture = Image.fromarray(stripes(0, 1)).convert("P")
    picture.putpalette([9, 9, 9, 200, 0, 0])
    data.put_mask(picture)


def float_mask(first: float):
    values = stripes(0, 1, kind=np.float32)
    values[0, 0] = first
    return mask(values, ".tif")


def smooth() -> np.ndarray:
    """A 0/255 mask of a disc with soft edges, as drawing programs and JPEG make them."""
    y, x = np.mgrid[:12, :16]
    return np.clip(255 * (1.5 - np.hypot(y - 6, x - 8) / 4), 0, 255).astype(np.uint8)


def jpeg_among_binary(data: Data) -> None:
    data.put_masks(stripes(0, 255))
    data.put_mask(smooth(), ".jpg")


PHOTOGRAPHS = [
    error("values", path, colours, "photograph")
    for path, colours in zip(MASKS, ("6,398", "6,400", "6,399", "6,399", "6,400"), strict=True)
]


def photographs_as_masks(data: Data) -> None:
    for path in data.root.glob("*/*/*.png"):
        put(path, noise(sum(map(ord, str(path.relative_to(data.root)))), 80, 80))


def two_kinds(data: Data) -> None:
    data.put_mask(stripes(0, 255))


def one_ignored(data: Data) -> None:
    data.put_masks(stripes(0, 1, 2))
    data.put_mask(stripes(255))


def nearly_red(data: Data) -> None:
    data.put_masks(coloured((0, 0, 0), RED))
    data.put_mask(coloured((0, 0, 0), (254, 0, 0)))


def colours_for(*colours):
    return {"classes": ["background", "crack"], "colors": [list(one) for one in colours]}


def black_on_white(data: Data) -> None:
    values = np.full((12, 16), 255, np.uint8)
    values[3, 4:9] = 0
    data.put_masks(values)


def one_inverted(data: Data) -> None:
    values = np.zeros((12, 16), np.uint8)
    values[3, 4:9] = 255
    data.put_masks(values)
    data.put_mask(255 - values)


def white_is_zero(data: Data) -> None:
    for path in sorted(data.root.glob("*/masks/*")):
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), stripes(0, 1), photometric="miniswhite")


def stack(data: Data) -> None:
    data.mask().unlink()
    tifffile.imwrite(data.mask("1.tif"), np.stack([stripes(0, 1)] * 4), photometric="minisblack")


CASES = [
    Case(
        "masks drawn black on white",
        black_on_white,
        [warning("inverted-masks", "train/masks/0.png", "5 of 5", "97.4%", '"values": [255, 0]')],
    ),
    Case(
        "masks drawn black on white, as classes.json says",
        named({"classes": ["background", "foreground"], "values": [255, 0]}, black_on_white),
        [],
    ),
    Case(
        "one inverted mask",
        one_inverted,
        [warning("inverted-masks", "train/masks/1.png", "1 of 5", "2.6%", "inverted")],
    ),
    Case(
        "masks in which 0 is white",
        white_is_zero,
        [warning("zero-is-white", "train/masks/0.tif", "5 of 5", "white")],
    ),
    Case(
        "mask of several pages",
        stack,
        [warning("unused-pages", "train/masks/1.tif", "1 of 5 masks", "pages", "4")],
    ),
    Case(
        "mask of another size",
        mask(np.zeros((12, 15), np.uint8)),
        [error("size-mismatch", "train/masks/1.png", "15x12", "16x12", "same size", "train/images/1.png")],
    ),
    Case(
        "turned mask",
        mask(np.zeros((16, 12), np.uint8)),
        [error("size-mismatch", "train/masks/1.png", "12x16", "16x12", "turned", "train/images/1.png")],
    ),
    Case(
        "half the size",
        mask(np.zeros((6, 8), np.uint8)),
        [error("size-mismatch", "train/masks/1.png", "8x6", "16x12", "same size", "train/images/1.png")],
    ),
    Case(
        "stray value",
        named(TWO, mask(stripes(0, 1, 7))),
        [error("values", "train/masks/1.png", "value 7", "0, 1, 7", "1 crack")],
    ),
    Case(
        "stray value without classes.json",
        mask(stripes(0, 1, 7)),
        [
            error("values", "train/masks/1.png", "value 7", "0, 1, 7", "1 foreground"),
            error("values", ".", "0, 1, 7", "classes.json"),
        ],
    ),
    Case(
        "stray values in every mask",
        masks(stripes(0, 1, 7)),
        [error("values", ".", "0, 1, 7", "classes.json")],
    ),
    Case(
        "many stray values",
        named(TWO, mask(np.arange(192, dtype=np.uint8).reshape(12, 16))),
        [
            error(
                "values",
                "train/masks/1.png",
                "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...",
                "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...",
                "1 crack",
            )
        ],
    ),
    Case(
        "JPEG masks",
        masks(smooth(), ".jpg"),
        [
            error("values", ".", "0, 1, 2, 3, 4, 5, 6, 7, 8, 13, ...", "JPEG", "two values"),
            warning("lossy-masks", "train/masks/0.jpg", "5 of 5", "JPEG", "PNG"),
        ],
    ),
    Case(
        "one JPEG mask",
        jpeg_among_binary,
        [
            error("values", "train/masks/1.jpg", "2, 3, 4, 5, 6, 7, 8, 13, 19, 20, ...", "JPEG", "two values"),
            error("values", ".", "0, 1, 2, 3, 4, 5, 6, 7, 8, 13, ...", "JPEG", "two values"),
            warning("lossy-masks", "train/masks/1.jpg", "1 of 5", "JPEG", "PNG"),
        ],
    ),
    Case(
        "JPEG masks of two classes",
        named(TWO, masks(smooth(), ".jpg")),
        [
            *[
                error("values", path, "2, 3, 4, 5, 6, 7, 8, 13, 19, 20, ...", "JPEG", "two values")
                for path in (path.replace(".png", ".jpg") for path in MASKS)
            ],
            warning("lossy-masks", "train/masks/0.jpg", "5 of 5", "JPEG", "PNG"),
        ],
    ),
    Case(
        "JPEG masks in colour",
        masks(np.dstack([smooth()] * 2 + [smooth() // 2]), ".jpg"),
        [
            error(
                "values",
                ".",
                "(0, 0, 0), (0, 0, 4), (0, 0, 5)",
                "classes.json",
            ),
            warning("lossy-masks", "train/masks/0.jpg", "5 of 5", "JPEG", "PNG"),
        ],
    ),
    Case(
        "JPEG mask of zeros and ones",
        mask(blocks(), ".jpg", quality=95),
        [warning("lossy-masks", "train/masks/1.jpg", "1 of 5", "JPEG", "PNG")],
    ),
    Case(
        "JPEG mask named .png", jpeg_named_png, [warning("lossy-masks", "train/masks/1.png", "1 of 5", "JPEG", "PNG")]
    ),
    Case(
        "JPEG mask in a TIFF file",
        mask(blocks(), ".tif", compression="jpeg", quality=95),
        [warning("lossy-masks", "train/masks/1.tif", "1 of 5", "JPEG", "PNG")],
    ),
    Case(
        "lossy WebP mask",
        mask(stripes(1), ".webp", quality=100),
        [warning("lossy-masks", "train/masks/1.webp", "1 of 5", "JPEG", "PNG")],
    ),
    Case("lossless WebP mask", mask(stripes(0, 1), ".webp", lossless=True), []),
    Case(
        "photographs as masks",
        photographs_as_masks,
        PHOTOGRAPHS,
    ),
    Case(
        "photographs as masks of named classes",
        named(TWO, photographs_as_masks),
        PHOTOGRAPHS,
    ),
    Case(
        "colours without classes.json",
        masks(coloured((0, 0, 0), RED, BLUE)),
        [error("values", ".", "(0, 0, 0), (0, 0, 255), (255, 0, 0)", "classes.json")],
    ),
    Case(
        "two colours, neither black",
        masks(coloured(GREEN, RED)),
        [error("values", ".", "(0, 255, 0), (255, 0, 0)", "classes.json")],
    ),
    Case(
        "colours that classes.json does not explain",
        named(TWO, masks(coloured((0, 0, 0), RED))),
        [
            *[
                error("values", path, "(255, 0, 0)", "found: (0, 0, 0), (255, 0, 0)", "1 crack", '"colors"')
                for path in MASKS
            ]
        ],
    ),
    Case(
        "a colour that is no class",
        named(colours_for((0, 0, 0), RED), masks(coloured((0, 0, 0), BLUE))),
        [
            *[
                error("values", path, "(0, 0, 255)", "found: (0, 0, 0), (0, 0, 255)", "(255, 0, 0) crack", '"colors"')
                for path in MASKS
            ]
        ],
    ),
    Case(
        "a colour nearly that of a class",
        named(colours_for((0, 0, 0), RED), nearly_red),
        [
            error(
                "values",
                "train/masks/1.png",
                "(254, 0, 0)",
                "found: (0, 0, 0), (254, 0, 0)",
                "(255, 0, 0) crack",
                '"colors"',
            )
        ],
    ),
    Case(
        "one mask in colour",
        mask(coloured((0, 0, 0), RED)),
        [
            error(
                "values",
                "train/masks/1.png",
                "(255, 0, 0)",
                "found: (0, 0, 0), (255, 0, 0)",
                "1 foreground",
                '"colors"',
            ),
            error("values", ".", "(0, 0, 0), (1, 1, 1), (255, 0, 0)", "classes.json"),
        ],
    ),
    Case("grey mask saved in colour", mask(coloured((0, 0, 0), (1, 1, 1))), []),
    Case("palette", palette, []),
    Case("palettes that agree where they are used", palettes(indexed(BLUE, RED), indexed(BLUE, RED, GREEN)), []),
    Case(
        "palettes in another order",
        palettes(indexed(BLUE, RED), indexed(RED, BLUE, values=(1, 0)), indexed(BLUE, RED)),
        [
            warning(
                "different-palettes", "train/masks/1.png", "index 0", "(0, 0, 255)", "(255, 0, 0)", "train/masks/0.png"
            )
        ],
    ),
    Case(
        "a colour that one palette lacks",
        palettes(indexed(BLUE, RED), indexed(BLUE, GREEN)),
        [
            warning(
                "different-palettes", "train/masks/1.png", "index 1", "(255, 0, 0)", "(0, 255, 0)", "train/masks/0.png"
            )
        ],
    ),
    Case("2-bit", written(png(16, 12, 2, 0, np.full((12, 4), 0b00010001))), []),
    Case(
        "16 bits in colour",
        written(png(16, 12, 16, 2, np.resize([0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1], (12, 96)))),
        [error("unreadable", "train/masks/1.png", "several channels", "16 bits")],
    ),
    Case("1-bit", mask(stripes(0, 1).astype(bool)), []),
    Case("mask with alpha", mask(np.dstack([stripes(0, 1), stripes(0, 255)])), []),
    Case(
        "class only in the alpha channel",
        masks(np.dstack([stripes(0)] * 3 + [stripes(0, 255)])),
        [error("values", ".", "value 0", "classes.json")],
    ),
    Case("float mask", float_mask(1), []),
    Case(
        "fractions",
        float_mask(0.5),
        [error("unreadable", "train/masks/1.tif", "fractions")],
    ),
    Case(
        "NaN",
        float_mask(np.nan),
        [error("unreadable", "train/masks/1.tif", "NaN")],
    ),
    Case(
        "infinity",
        float_mask(np.inf),
        [error("unreadable", "train/masks/1.tif", "NaN")],
    ),
    Case(
        "huge float",
        float_mask(1e30),
        [error("unreadable", "train/masks/1.tif", "value 1000000015047466219876688855040", "65535")],
    ),
    Case(
        "negative float",
        float_mask(-1),
        [error("unreadable", "train/masks/1.tif", "value -1", "65535")],
    ),
    Case(
        "negative int",
        mask(stripes(0, -1, kind=np.int32), ".tif"),
        [error("unreadable", "train/masks/1.tif", "value -1", "65535")],
    ),
    Case(
        "16-bit values beyond the classes",
        mask(stripes(0, 1, 40000, kind=np.uint16)),
        [
            error("values", "train/masks/1.png", "value 40000", "0, 1, 40000", "1 foreground"),
            error("values", ".", "0, 1, 40000", "classes.json"),
        ],
    ),
    Case(
        "32-bit values beyond the classes",
        mask(stripes(0, 1, 10**6, kind=np.int32), ".tif"),
        [
            error("values", "train/masks/1.tif", "value 1000000", "0, 1, 1000000", "1 foreground"),
            error("values", ".", "0, 1, 1000000", "classes.json"),
        ],
    ),
    Case(
        "32-bit value that looks like a colour",
        mask(stripes(0, 1 << 24, kind=np.int32), ".tif"),
        [error("unreadable", "train/masks/1.tif", "value 16777216", "65535")],
    ),
    Case(
        "CMYK mask",
        mask(Image.fromarray(noise(1)).convert("CMYK"), ".tif"),
        [error("unreadable", "train/masks/1.tif", "CMYK")],
    ),
    Case(
        "all empty",
        masks(stripes(0)),
        [error("values", ".", "value 0", "classes.json")],
    ),
    Case(
        "all full",
        masks(stripes(255)),
        [error("values", ".", "value 255", "classes.json")],
    ),
    Case(
        "one class only",
        named(THREE, masks(stripes(1))),
        [error("absent-class", ".", "train", "only road"), warning("absent-class", ".", "val", "sky, car")],
    ),
    Case(
        "named classes, all empty",
        named(TWO, masks(stripes(0))),
        [error("absent-class", ".", "train", "only background"), warning("absent-class", ".", "val", "crack")],
    ),
    Case(
        "everything ignored",
        named(THREE, masks(stripes(255))),
        [error("absent-class", ".", "train", "ignored"), error("absent-class", ".", "val", "ignored")],
    ),
    Case(
        "everything ignored in one mask",
        named(THREE, one_ignored),
        [warning("ignored-mask", "train/masks/1.png", "ignored")],
    ),
    Case(
        "everything ignored in the validation split",
        named({**TWO, "ignore_index": 9}, in_val(stripes(9))),
        [error("absent-class", ".", "val", "ignored")],
    ),
    Case("empty masks among others", mask(stripes(0)), []),
    Case(
        "0/255 among 0/1",
        two_kinds,
        [error("mixed-masks", "train/masks/1.png", "1 of 5", "0/255", "0/1", "--threshold 1", "ignore_index")],
    ),
    Case(
        "other classes in the validation split",
        in_val(stripes(0, 1, 2)),
        [
            error("values", "val/masks/0.png", "value 2", "0, 1, 2", "1 foreground"),
            error("values", ".", "0, 1, 2", "classes.json"),
        ],
    ),
    Case(
        "other named classes in the validation split",
        named(TWO, in_val(stripes(0, 1, 2))),
        [error("values", "val/masks/0.png", "value 2", "0, 1, 2", "1 crack")],
    ),
    Case(
        "no foreground in the validation split",
        named(TWO, in_val(stripes(0))),
        [warning("absent-class", ".", "val", "crack")],
    ),
    Case(
        "0/255 in the validation split",
        in_val(stripes(0, 255)),
        [
            error("mixed-masks", "val/masks/0.png", "1 of 5", "0/255", "0/1", "--threshold 1", "ignore_index"),
            warning("absent-class", ".", "val", "foreground"),
        ],
    ),
]
