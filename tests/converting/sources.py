"""Small data sets as other tools write them, drawn by code."""

import io
import json

import numpy as np
from PIL import Image

SIZE = (30, 40)  # (height, width)
CORNERS = [(5.0, 4.0), (25.0, 4.0), (25.0, 20.0), (5.0, 20.0)]
DRAWN = [(x + 0.25, y + 0.25) for x, y in CORNERS]  # by hand: those of tools that take whole numbers for pixels
INSIDE = np.zeros(SIZE, bool)
INSIDE[4:20, 5:25] = True


def image(path, seed=0, size=SIZE, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, **save)
    return path


def mask(path, values, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if palette is not None:
        picture = Image.frombytes("P", picture.size, picture.tobytes())
        picture.putpalette(palette)
    picture.save(path)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def yolo(root, splits=("train", "valid", "test"), number=2):
    names = "\n".join(f"  {place}: {name}" for place, name in enumerate(("crack", "hole")))
    paths = "".join(f"{'val' if split == 'valid' else split}: ../{split}/images\n" for split in splits)
    text(root / "data.yaml", f"{paths}nc: 2\nnames:\n{names}\n")
    points = " ".join(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in DRAWN)
    for place, split in enumerate(splits):
        for one in range(number):
            image(root / split / "images" / f"{one}.jpg", place)
            text(root / split / "labels" / f"{one}.txt", f"1 {points}\n")
    return root


def read(folder):
    """Stem and values of each mask of a data folder."""
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in sorted(folder.rglob("masks/*"))
    }


def pairs(root, number=6, suffix="_mask", values=INSIDE * 255):
    for one in range(number):
        image(root / f"{one}.jpg", one)
        mask(root / f"{one}{suffix}.png", values)
    return root


def labelme_file(path, shapes, **more):
    shapes = [{"group_id": None, "flags": {}, "shape_type": "polygon", **shape} for shape in shapes]
    fields = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": path.with_suffix(".jpg").name,
              "imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1], **more}  # fmt: skip
    return text(path, fields)


def base64_png(values, **save):
    stream = io.BytesIO()
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if "transparency" in save:
        picture = Image.frombytes("P", picture.size, picture.tobytes())
        picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(stream, format="PNG", **save)
    return stream.getvalue()


def voc(root, colours=True):
    """As CVAT writes it: masks in RGB, labels in alphabetical order."""
    for number in range(3):
        image(root / "JPEGImages" / f"{number}.jpg", number)
        pixels = np.zeros((*SIZE, 3), np.uint8)
        pixels[INSIDE] = (250, 50, 83)
        pixels[0, 0] = (224, 224, 192)
        (root / "SegmentationClass").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / "SegmentationClass" / f"{number}.png")
    text(root / "labelmap.txt", "# label:color_rgb:parts:actions\ncrack:250,50,83::\nbackground:0,0,0::\n")
    text(root / "ImageSets" / "Segmentation" / "train.txt", "0\n1\n")
    text(root / "ImageSets" / "Segmentation" / "val.txt", "2\n")
    return root


def runs(flat):
    """Lengths of runs of 0 and 1 in turn."""
    counts, last, value = [], 0, False
    for place in [*np.flatnonzero(np.diff(flat.astype(int))) + 1, len(flat)]:
        if not counts and flat[0]:
            counts.append(0)
        counts.append(int(place) - last)
        last, value = int(place), not value
    return counts


def cvat(root, shapes, doctype="", number=2):
    entries = []
    for one in range(number):
        image(root / "images" / f"{one}.jpg", one)
        inner = shapes if one == 0 else ""
        entries.append(f'<image id="{one}" name="{one}.jpg" width="{SIZE[1]}" height="{SIZE[0]}">{inner}</image>')
    labels = "".join(
        f"<label><name>{name}</name><color>{colour}</color><type>any</type><attributes></attributes></label>"
        for name, colour in (("crack", "#fa3253"), ("hole", "#24b353"))
    )
    head = f"<meta><job><id>1</id><labels>{labels}</labels></job></meta>"
    xml = '<?xml version="1.0" encoding="utf-8"?>'
    text(
        root / "annotations.xml",
        f"{xml}{doctype}<annotations><version>1.1</version>{head}{''.join(entries)}</annotations>",
    )
    return root


def rle_pack(values):
    """Packs bytes as @thi.ng/rle-pack does, which Label Studio uses."""
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    place = 0
    while place < len(values):
        end = place
        while end < len(values) and values[end] == values[place] and end - place < 60000:
            end += 1
        if end - place > 1:
            bits += "1" + "11" + f"{end - place - 1:016b}" + f"{values[place]:08b}"
        else:
            bits += "0" + "00" + "000" + f"{values[place]:08b}"
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
