"""Masks that do not fit their images, hold strange values, or leave nothing to learn."""

import numpy as np
import tifffile
from PIL import Image

from tests.data.dirty import Case, Data, coloured, noise, png, put, stripes

TWO = {"classes": ["background", "crack"]}
THREE = {"classes": ["sky", "road", "car"]}
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)


def mask(values, suffix: str = ".png", **options: object):
    return lambda data: data.put_mask(values, suffix, **options)


def masks(values, suffix: str = ".png", **options: object):
    return lambda data: data.put_masks(values, suffix, **options)


def lossy(count: int, first: str) -> str:
    return (
        f"warning: {count} of 5 masks are compressed as photographs are, by JPEG or lossy WebP (the first is "
        f"DATA/train/masks/{first}), which blurs edges and turns shapes into blocks. Save masks as PNG, from what they "
        "were made of."
    )


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
    f"error: DATA/{name}.png holds {colours} different colours, so it is a photograph or "
    "JPEG-compressed, and no map of classes. Save masks as PNG with one colour per class."
    for name, colours in (
        ("train/masks/0", "6,398"),
        ("train/masks/1", "6,400"),
        ("train/masks/2", "6,399"),
        ("train/masks/3", "6,399"),
        ("val/masks/0", "6,400"),
    )
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
        [
            "warning: 5 of 5 masks are nearly all foreground (the first is DATA/train/masks/0.png): the larger of the "
            "two values is taken for it and has 97.4% of the pixels of a typical mask. If the smaller one is what you "
            'look for, swap them in the masks, or say so in classes.json: {"classes": ["background", "foreground"], '
            '"values": [255, 0]}.',
        ],
    ),
    Case(
        "masks drawn black on white, as classes.json says",
        named({"classes": ["background", "foreground"], "values": [255, 0]}, black_on_white),
        [],
    ),
    Case(
        "one inverted mask",
        one_inverted,
        [
            "warning: 1 of 5 masks are nearly all foreground (the first is DATA/train/masks/1.png). A typical mask "
            "has 2.6% foreground. If they are inverted, swap their two values.",
        ],
    ),
    Case(
        "masks in which 0 is white",
        white_is_zero,
        [
            "warning: 5 of 5 masks are TIFF files that say that 0 is white (the first is DATA/train/masks/0.tif). "
            "Their stored values count: 0 is the background, which viewers show white. If you mean what viewers show, "
            "save them as PNG.",
        ],
    ),
    Case(
        "mask of several pages",
        stack,
        [
            "warning: 1 of 5 masks have several pages or frames (the first is DATA/train/masks/1.tif with 4), and "
            "only the first is read; 3 are left out. Save those you need as images of their own.",
        ],
    ),
    Case(
        "mask of another size",
        mask(np.zeros((12, 15), np.uint8)),
        [
            "error: DATA/train/masks/1.png is 15x12 pixels (width x height), but its image "
            "DATA/train/images/1.png is 16x12. Give both the same size.",
        ],
    ),
    Case(
        "turned mask",
        mask(np.zeros((16, 12), np.uint8)),
        [
            "error: DATA/train/masks/1.png is 12x16 pixels (width x height), but its image "
            "DATA/train/images/1.png is 16x12. One of them is turned, perhaps by the orientation that EXIF "
            "states; save both upright.",
        ],
    ),
    Case(
        "half the size",
        mask(np.zeros((6, 8), np.uint8)),
        [
            "error: DATA/train/masks/1.png is 8x6 pixels (width x height), but its image "
            "DATA/train/images/1.png is 16x12. Give both the same size.",
        ],
    ),
    Case(
        "stray value",
        named(TWO, mask(stripes(0, 1, 7))),
        [
            "error: DATA/train/masks/1.png holds the value 7 (found: 0, 1, 7), which is none of the 2 "
            "classes (0 background, 1 crack) and not the ignore value 255. Correct the mask, or name the "
            'classes in classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
        ],
    ),
    Case(
        "stray value without classes.json",
        mask(stripes(0, 1, 7)),
        [
            "error: DATA/train/masks/1.png holds the value 7 (found: 0, 1, 7), which is none of the 2 "
            "classes (0 background, 1 foreground) and not the ignore value 255. Correct the mask, or name "
            'the classes in classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
            "error: The masks of DATA hold the values 0, 1, 7, which is not a binary task. Add "
            'DATA/classes.json that names the classes. It should look like {"classes": ["background", '
            '"crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "stray values in every mask",
        masks(stripes(0, 1, 7)),
        [
            "error: The masks of DATA hold the values 0, 1, 7, which is not a binary task. Add "
            'DATA/classes.json that names the classes. It should look like {"classes": ["background", '
            '"crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "many stray values",
        named(TWO, mask(np.arange(192, dtype=np.uint8).reshape(12, 16))),
        [
            "error: DATA/train/masks/1.png holds the values 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (found: 0, "
            "1, 2, 3, 4, 5, 6, 7, 8, 9, ...), which are none of the 2 classes (0 background, 1 crack) and "
            'not the ignore value 255. Correct the mask, or name the classes in classes.json, with "values" '
            "if they are not numbered from 0. "
            'Its "ignore_index" lists the values that do not count.',
        ],
    ),
    Case(
        "JPEG masks",
        masks(smooth(), ".jpg"),
        [
            "error: The masks of DATA hold the values 0, 1, 2, 3, 4, 5, 6, 7, 8, 13, ..., which is not a "
            "binary task. They look like JPEG-compressed or anti-aliased 0/255 masks; save them as PNG with "
            "two values only.",
            lossy(5, "0.jpg"),
        ],
    ),
    Case(
        "one JPEG mask",
        jpeg_among_binary,
        [
            "error: DATA/train/masks/1.jpg holds the values 2, 3, 4, 5, 6, 7, 8, 13, 19, 20, ... (found: 0, "
            "1, 2, 3, 4, 5, 6, 7, 8, 13, ...), which are none of the 2 classes (0 background, 1 foreground) "
            "and not the ignore value 255. They look like JPEG-compressed or anti-aliased 0/255 masks; save "
            "them as PNG with two values only.",
            "error: The masks of DATA hold the values 0, 1, 2, 3, 4, 5, 6, 7, 8, 13, ..., which is not a "
            "binary task. They look like JPEG-compressed or anti-aliased 0/255 masks; save them as PNG with "
            "two values only.",
            lossy(1, "1.jpg"),
        ],
    ),
    Case(
        "JPEG masks of two classes",
        named(TWO, masks(smooth(), ".jpg")),
        [
            "error: DATA/train/masks/0.jpg holds the values 2, 3, 4, 5, 6, 7, 8, 13, 19, 20, ... (found: 0, "
            "1, 2, 3, 4, 5, 6, 7, 8, 13, ...), which are none of the 2 classes (0 background, 1 crack) and "
            "not the ignore value 255. They look like JPEG-compressed or anti-aliased 0/255 masks; save "
            "them as PNG with two values only.",
            "error: DATA/train/masks/1.jpg holds the values 2, 3, 4, 5, 6, 7, 8, 13, 19, 20, ... (found: 0, "
            "1, 2, 3, 4, 5, 6, 7, 8, 13, ...), which are none of the 2 classes (0 background, 1 crack) and "
            "not the ignore value 255. They look like JPEG-compressed or anti-aliased 0/255 masks; save "
            "them as PNG with two values only.",
            "error: DATA/train/masks/2.jpg holds the values 2, 3, 4, 5, 6, 7, 8, 13, 19, 20, ... (found: 0, "
            "1, 2, 3, 4, 5, 6, 7, 8, 13, ...), which are none of the 2 classes (0 background, 1 crack) and "
            "not the ignore value 255. They look like JPEG-compressed or anti-aliased 0/255 masks; save "
            "them as PNG with two values only.",
            "error: DATA/train/masks/3.jpg holds the values 2, 3, 4, 5, 6, 7, 8, 13, 19, 20, ... (found: 0, "
            "1, 2, 3, 4, 5, 6, 7, 8, 13, ...), which are none of the 2 classes (0 background, 1 crack) and "
            "not the ignore value 255. They look like JPEG-compressed or anti-aliased 0/255 masks; save "
            "them as PNG with two values only.",
            "error: DATA/val/masks/0.jpg holds the values 2, 3, 4, 5, 6, 7, 8, 13, 19, 20, ... (found: 0, "
            "1, 2, 3, 4, 5, 6, 7, 8, 13, ...), which are none of the 2 classes (0 background, 1 crack) and "
            "not the ignore value 255. They look like JPEG-compressed or anti-aliased 0/255 masks; save "
            "them as PNG with two values only.",
            lossy(5, "0.jpg"),
        ],
    ),
    Case(
        "JPEG masks in colour",
        masks(np.dstack([smooth()] * 2 + [smooth() // 2]), ".jpg"),
        [
            "error: The masks of DATA are in colour (the colours (0, 0, 0), (0, 0, 4), (0, 0, 5), (0, 0, "
            "7), (0, 1, 0), (0, 2, 0), (0, 3, 0), (0, 3, 2), (1, 0, 0), (1, 0, 2), ...). Add "
            'DATA/classes.json that names the classes and their colours, such as {"classes": ["background", '
            '"crack"], "colors": [[0, 0, 0], [255, 0, 0]]}.',
            lossy(5, "0.jpg"),
        ],
    ),
    Case("JPEG mask of zeros and ones", mask(blocks(), ".jpg", quality=95), [lossy(1, "1.jpg")]),
    Case("JPEG mask named .png", jpeg_named_png, [lossy(1, "1.png")]),
    Case("JPEG mask in a TIFF file", mask(blocks(), ".tif", compression="jpeg", quality=95), [lossy(1, "1.tif")]),
    Case("lossy WebP mask", mask(stripes(1), ".webp", quality=100), [lossy(1, "1.webp")]),
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
        [
            "error: The masks of DATA are in colour (the colours (0, 0, 0), (0, 0, 255), (255, 0, 0)). Add "
            'DATA/classes.json that names the classes and their colours, such as {"classes": ["background", '
            '"crack"], "colors": [[0, 0, 0], [255, 0, 0]]}.',
        ],
    ),
    Case(
        "two colours, neither black",
        masks(coloured(GREEN, RED)),
        [
            "error: The masks of DATA are in colour (the colours (0, 255, 0), (255, 0, 0)). Add "
            'DATA/classes.json that names the classes and their colours, such as {"classes": ["background", '
            '"crack"], "colors": [[0, 0, 0], [255, 0, 0]]}.',
        ],
    ),
    Case(
        "colours that classes.json does not explain",
        named(TWO, masks(coloured((0, 0, 0), RED))),
        [
            "error: DATA/train/masks/0.png holds the colour (255, 0, 0) (found: (0, 0, 0), (255, 0, 0)), "
            "which is none of the 2 classes (0 background, 1 crack) and not the ignore value 255. Correct "
            'the mask, or add the colours of the classes to classes.json: "colors": [[0, 0, 0], [255, 0, '
            "0], ...].",
            "error: DATA/train/masks/1.png holds the colour (255, 0, 0) (found: (0, 0, 0), (255, 0, 0)), "
            "which is none of the 2 classes (0 background, 1 crack) and not the ignore value 255. Correct "
            'the mask, or add the colours of the classes to classes.json: "colors": [[0, 0, 0], [255, 0, '
            "0], ...].",
            "error: DATA/train/masks/2.png holds the colour (255, 0, 0) (found: (0, 0, 0), (255, 0, 0)), "
            "which is none of the 2 classes (0 background, 1 crack) and not the ignore value 255. Correct "
            'the mask, or add the colours of the classes to classes.json: "colors": [[0, 0, 0], [255, 0, '
            "0], ...].",
            "error: DATA/train/masks/3.png holds the colour (255, 0, 0) (found: (0, 0, 0), (255, 0, 0)), "
            "which is none of the 2 classes (0 background, 1 crack) and not the ignore value 255. Correct "
            'the mask, or add the colours of the classes to classes.json: "colors": [[0, 0, 0], [255, 0, '
            "0], ...].",
            "error: DATA/val/masks/0.png holds the colour (255, 0, 0) (found: (0, 0, 0), (255, 0, 0)), "
            "which is none of the 2 classes (0 background, 1 crack) and not the ignore value 255. Correct "
            'the mask, or add the colours of the classes to classes.json: "colors": [[0, 0, 0], [255, 0, '
            "0], ...].",
        ],
    ),
    Case(
        "a colour that is no class",
        named(colours_for((0, 0, 0), RED), masks(coloured((0, 0, 0), BLUE))),
        [
            "error: DATA/train/masks/0.png holds the colour (0, 0, 255) (found: (0, 0, 0), (0, 0, 255)), "
            "which is none of the 2 classes ((0, 0, 0) background, (255, 0, 0) crack). Correct the mask, or "
            'add the missing colours to classes.json: "colors": [[0, 0, 0], [255, 0, 0], ...].',
            "error: DATA/train/masks/1.png holds the colour (0, 0, 255) (found: (0, 0, 0), (0, 0, 255)), "
            "which is none of the 2 classes ((0, 0, 0) background, (255, 0, 0) crack). Correct the mask, or "
            'add the missing colours to classes.json: "colors": [[0, 0, 0], [255, 0, 0], ...].',
            "error: DATA/train/masks/2.png holds the colour (0, 0, 255) (found: (0, 0, 0), (0, 0, 255)), "
            "which is none of the 2 classes ((0, 0, 0) background, (255, 0, 0) crack). Correct the mask, or "
            'add the missing colours to classes.json: "colors": [[0, 0, 0], [255, 0, 0], ...].',
            "error: DATA/train/masks/3.png holds the colour (0, 0, 255) (found: (0, 0, 0), (0, 0, 255)), "
            "which is none of the 2 classes ((0, 0, 0) background, (255, 0, 0) crack). Correct the mask, or "
            'add the missing colours to classes.json: "colors": [[0, 0, 0], [255, 0, 0], ...].',
            "error: DATA/val/masks/0.png holds the colour (0, 0, 255) (found: (0, 0, 0), (0, 0, 255)), "
            "which is none of the 2 classes ((0, 0, 0) background, (255, 0, 0) crack). Correct the mask, or "
            'add the missing colours to classes.json: "colors": [[0, 0, 0], [255, 0, 0], ...].',
        ],
    ),
    Case(
        "a colour nearly that of a class",
        named(colours_for((0, 0, 0), RED), nearly_red),
        [
            "error: DATA/train/masks/1.png holds the colour (254, 0, 0) (found: (0, 0, 0), (254, 0, 0)), "
            "which is none of the 2 classes ((0, 0, 0) background, (255, 0, 0) crack). Correct the mask, or "
            'add the missing colours to classes.json: "colors": [[0, 0, 0], [255, 0, 0], ...].',
        ],
    ),
    Case(
        "one mask in colour",
        mask(coloured((0, 0, 0), RED)),
        [
            "error: DATA/train/masks/1.png holds the colour (255, 0, 0) (found: (0, 0, 0), (255, 0, 0)), "
            "which is none of the 2 classes (0 background, 1 foreground) and not the ignore value 255. "
            'Correct the mask, or add the colours of the classes to classes.json: "colors": [[0, 0, 0], '
            "[255, 0, 0], ...].",
            "error: The masks of DATA are in colour (the colours (0, 0, 0), (1, 1, 1), (255, 0, 0)). Add "
            'DATA/classes.json that names the classes and their colours, such as {"classes": ["background", '
            '"crack"], "colors": [[0, 0, 0], [255, 0, 0]]}.',
        ],
    ),
    Case("grey mask saved in colour", mask(coloured((0, 0, 0), (1, 1, 1))), []),
    Case("palette", palette, []),
    Case("palettes that agree where they are used", palettes(indexed(BLUE, RED), indexed(BLUE, RED, GREEN)), []),
    Case(
        "palettes in another order",
        palettes(indexed(BLUE, RED), indexed(RED, BLUE, values=(1, 0)), indexed(BLUE, RED)),
        [
            "warning: The index 0 is (0, 0, 255) in the palette of DATA/train/masks/0.png and (255, 0, 0) in that of "
            "DATA/train/masks/1.png. Of palette masks the indices count, not the colours: check that they mean the "
            "same in all masks, and save them with one palette.",
        ],
    ),
    Case(
        "a colour that one palette lacks",
        palettes(indexed(BLUE, RED), indexed(BLUE, GREEN)),
        [
            "warning: The index 1 is (255, 0, 0) in the palette of DATA/train/masks/0.png and (0, 255, 0) in that of "
            "DATA/train/masks/1.png. Of palette masks the indices count, not the colours: check that they mean the "
            "same in all masks, and save them with one palette.",
        ],
    ),
    Case("2-bit", written(png(16, 12, 2, 0, np.full((12, 4), 0b00010001))), []),
    Case(
        "16 bits in colour",
        written(png(16, 12, 16, 2, np.resize([0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1], (12, 96)))),
        [
            "error: DATA/train/masks/1.png is a mask of several channels of 16 bits. Only the upper 8 bits can be "
            "read. Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case("1-bit", mask(stripes(0, 1).astype(bool)), []),
    Case("mask with alpha", mask(np.dstack([stripes(0, 1), stripes(0, 255)])), []),
    Case(
        "class only in the alpha channel",
        masks(np.dstack([stripes(0)] * 3 + [stripes(0, 255)])),
        [
            "error: The masks of DATA hold only the value 0, so there is nothing to tell apart. Check that "
            "the masks are the right files, or add a classes.json that names the classes.",
        ],
    ),
    Case("float mask", float_mask(1), []),
    Case(
        "fractions",
        float_mask(0.5),
        [
            "error: DATA/train/masks/1.tif is a mask with fractions, but masks must hold class indices. "
            "Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case(
        "NaN",
        float_mask(np.nan),
        [
            "error: DATA/train/masks/1.tif is a mask with NaN or infinite values, but masks must hold class "
            "indices. Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case(
        "infinity",
        float_mask(np.inf),
        [
            "error: DATA/train/masks/1.tif is a mask with NaN or infinite values, but masks must hold class "
            "indices. Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case(
        "huge float",
        float_mask(1e30),
        [
            "error: DATA/train/masks/1.tif is a mask with the value 1000000015047466219876688855040, but "
            "class indices lie between 0 and 65535. Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case(
        "negative float",
        float_mask(-1),
        [
            "error: DATA/train/masks/1.tif is a mask with the value -1, but class indices lie between 0 and "
            "65535. Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case(
        "negative int",
        mask(stripes(0, -1, kind=np.int32), ".tif"),
        [
            "error: DATA/train/masks/1.tif is a mask with the value -1, but class indices lie between 0 and "
            "65535. Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case(
        "16-bit values beyond the classes",
        mask(stripes(0, 1, 40000, kind=np.uint16)),
        [
            "error: DATA/train/masks/1.png holds the value 40000 (found: 0, 1, 40000), which is none of the "
            "2 classes (0 background, 1 foreground) and not the ignore value 255. Correct the mask, or name "
            'the classes in classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
            "error: The masks of DATA hold the values 0, 1, 40000, which is not a binary task. Add "
            'DATA/classes.json that names the classes. It should look like {"classes": ["background", '
            '"crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "32-bit values beyond the classes",
        mask(stripes(0, 1, 10**6, kind=np.int32), ".tif"),
        [
            "error: DATA/train/masks/1.tif holds the value 1000000 (found: 0, 1, 1000000), which is none of "
            "the 2 classes (0 background, 1 foreground) and not the ignore value 255. Correct the mask, or "
            'name the classes in classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
            "error: The masks of DATA hold the values 0, 1, 1000000, which is not a binary task. Add "
            'DATA/classes.json that names the classes. It should look like {"classes": ["background", '
            '"crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "32-bit value that looks like a colour",
        mask(stripes(0, 1 << 24, kind=np.int32), ".tif"),
        [
            "error: DATA/train/masks/1.tif is a mask with the value 16777216, but class indices lie between "
            "0 and 65535. Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case(
        "CMYK mask",
        mask(Image.fromarray(noise(1)).convert("CMYK"), ".tif"),
        [
            "error: DATA/train/masks/1.tif is a mask in the colour space CMYK, but masks must be grey or "
            "RGB. Save it as an 8-bit or 16-bit PNG of class indices.",
        ],
    ),
    Case(
        "all empty",
        masks(stripes(0)),
        [
            "error: The masks of DATA hold only the value 0, so there is nothing to tell apart. Check that "
            "the masks are the right files, or add a classes.json that names the classes.",
        ],
    ),
    Case(
        "all full",
        masks(stripes(255)),
        [
            "error: The masks of DATA hold only the value 255, so there is nothing to tell apart. Check "
            "that the masks are the right files, or add a classes.json that names the classes.",
        ],
    ),
    Case(
        "one class only",
        named(THREE, masks(stripes(1))),
        [
            "error: The masks of the split 'train' of DATA hold only road, so there is nothing to learn. "
            "Check the masks.",
            "warning: The split 'val' of DATA has no pixel of sky, car, so they can be neither learned nor "
            "scored there.",
        ],
    ),
    Case(
        "named classes, all empty",
        named(TWO, masks(stripes(0))),
        [
            "error: The masks of the split 'train' of DATA hold only background, so there is nothing to "
            "learn. Check the masks.",
            "warning: The split 'val' of DATA has no pixel of crack, so it can be neither learned nor scored there.",
        ],
    ),
    Case(
        "everything ignored",
        named(THREE, masks(stripes(255))),
        [
            "error: All pixels in the masks of the split 'train' of DATA are ignored. Check the masks and "
            "the ignore value.",
            "error: All pixels in the masks of the split 'val' of DATA are ignored. Check the masks and the "
            "ignore value.",
        ],
    ),
    Case(
        "everything ignored in one mask",
        named(THREE, one_ignored),
        [
            "warning: DATA/train/masks/1.png holds nothing but ignored pixels. Leave the image out, or "
            "correct the mask.",
        ],
    ),
    Case(
        "everything ignored in the validation split",
        named({**TWO, "ignore_index": 9}, in_val(stripes(9))),
        [
            "error: All pixels in the masks of the split 'val' of DATA are ignored. Check the masks and the "
            "ignore value.",
        ],
    ),
    Case("empty masks among others", mask(stripes(0)), []),
    Case(
        "0/255 among 0/1",
        two_kinds,
        [
            "warning: 1 of 5 masks of DATA are 0/255 (the first is DATA/train/masks/1.png) and the others "
            "0/1, so that 255 is ignored. If it is foreground, save all masks alike.",
        ],
    ),
    Case(
        "other classes in the validation split",
        in_val(stripes(0, 1, 2)),
        [
            "error: DATA/val/masks/0.png holds the value 2 (found: 0, 1, 2), which is none of the 2 classes "
            "(0 background, 1 foreground) and not the ignore value 255. Correct the mask, or name the "
            'classes in classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
            "error: The masks of DATA hold the values 0, 1, 2, which is not a binary task. Add "
            'DATA/classes.json that names the classes. It should look like {"classes": ["background", '
            '"crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "other named classes in the validation split",
        named(TWO, in_val(stripes(0, 1, 2))),
        [
            "error: DATA/val/masks/0.png holds the value 2 (found: 0, 1, 2), which is none of the 2 classes "
            "(0 background, 1 crack) and not the ignore value 255. Correct the mask, or name the classes in "
            'classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
        ],
    ),
    Case(
        "no foreground in the validation split",
        named(TWO, in_val(stripes(0))),
        [
            "warning: The split 'val' of DATA has no pixel of crack, so it can be neither learned nor scored there.",
        ],
    ),
    Case(
        "0/255 in the validation split",
        in_val(stripes(0, 255)),
        [
            "warning: 1 of 5 masks of DATA are 0/255 (the first is DATA/val/masks/0.png) and the others "
            "0/1, so that 255 is ignored. If it is foreground, save all masks alike.",
            "warning: The split 'val' of DATA has no pixel of foreground, so it can be neither learned nor "
            "scored there.",
        ],
    ),
]
