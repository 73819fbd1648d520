"""The files of labelling tools, each damaged beside others that are whole, as `data convert` reads them."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from convlora.converting.convert import convert
from convlora.converting.options import Options
from convlora.data.sources.formats.recognise import recognise
from convlora.errors import InputError
from tests.converting import sources
from tests.fuzz.reader import Reader

_SIZE = (9, 11)  # (height, width)
_INSIDE = np.zeros(_SIZE, bool)
_INSIDE[2:6, 3:9] = True
_CORNERS = [[3, 2], [9, 2], [9, 6], [3, 6]]
_COLOURS = np.where(_INSIDE[..., None], (250, 50, 83), (0, 0, 0)).astype(np.uint8)


def picture(values: np.ndarray, form: str = "PNG") -> bytes:
    """A file of an image."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, form)
    return stream.getvalue()


@cache
def _photo() -> bytes:
    return picture(np.random.default_rng(0).integers(0, 256, (*_SIZE, 3), dtype=np.uint8), "JPEG")


def _tiff() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, _INSIDE.astype(np.uint16) * 300, compression="zlib")
    return stream.getvalue()


def _reader(
    form: str, name: str, *seeds: object, beside: Mapping[str, bytes] | None = None, **options: object
) -> Reader:
    """A format, of which one file is damaged.

    Args:
        form: Its name, `"auto"` for archives.
        name: The place of the file in the folder of the data set.
        seeds: What is right in it: bytes, text, or values for JSON.
        beside: The other files by their places.
        **options: What a user says to it.
    """
    others = dict(beside or {})
    whole = Options.checked(form, **options)

    def read(path: Path) -> None:
        root = path.parent / "data"
        shutil.rmtree(root, ignore_errors=True)
        for place, content in {**others, name: path.read_bytes()}.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_bytes(content)
        source = root / name if form == "auto" else root
        recognise(source)
        try:
            convert(source, path.parent / "made", whole, lambda items, _: iter(items))
        except InputError as error:
            left = {one.name for one in path.parent.iterdir()} - {path.name, "data"}
            if left or str(root) not in str(error):
                raise AssertionError(f"leaves {left or 'nothing'} behind and says {error}") from error
            raise
        finally:
            shutil.rmtree(path.parent / "made", ignore_errors=True)

    return Reader(Path(name).name, [_content(seed) for seed in seeds], read)


def _content(seed: object) -> bytes:
    if isinstance(seed, bytes):
        return seed
    return (seed if isinstance(seed, str) else json.dumps(seed)).encode()


def _labelme() -> dict:
    stamp = base64.b64encode(picture(np.ones((3, 4), np.uint8))).decode()
    shapes = [
        {"label": "crack", "points": _CORNERS, "shape_type": "polygon"},
        {"label": "hole", "points": [[1, 1], [4, 5]], "shape_type": "rectangle"},
        {"label": "hole", "points": [[5, 5], [5, 7.5]], "shape_type": "circle"},
        {"label": "crack", "points": [[2, 2], [5, 4]], "shape_type": "mask", "mask": stamp},
        {"label": "__ignore__", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"},
    ]
    held = base64.b64encode(_photo()).decode()
    return {"version": "5.5.0", "shapes": shapes, "imagePath": "b.jpg", "imageData": held,
            "imageHeight": _SIZE[0], "imageWidth": _SIZE[1]}  # fmt: skip


def _cvat() -> str:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in _CORNERS)
    shapes = f"""<polygon label="crack" points="{points}" z_order="1"/>
      <box label="hole" xtl="1" ytl="1" xbr="4" ybr="5" rotation="30" z_order="0"></box>
      <ellipse label="hole" cx="5" cy="5" rx="2.5" ry="1.5" rotation="10" z_order="2"/>
      <mask label="crack" rle="3, 4, 5" left="2" top="3" width="4" height="3" z_order="3"/>
      <polyline label="crack" points="1,1;2,2" z_order="0"/>"""
    labels = "<label><name>crack</name><color>#fa3253</color></label><label><name>hole</name></label>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><job><labels>{labels}</labels>'
        f'</job></meta><image id="0" name="a.jpg" subset="train" width="{_SIZE[1]}" height="{_SIZE[0]}">{shapes}'
        "</image></annotations>"
    )


def _label_studio() -> list:
    rgba = np.zeros((*_SIZE, 4), np.uint8)
    rgba[_INSIDE] = (1, 2, 3, 255)
    size = {"original_width": _SIZE[1], "original_height": _SIZE[0], "image_rotation": 0}
    box = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 15}
    kinds = {
        "polygonlabels": {"points": [[10, 20], [80, 20], [80, 60]]},
        "brushlabels": {"format": "rle", "rle": sources.rle_pack(rgba.ravel().tolist())},
        "rectanglelabels": box,
        "ellipselabels": {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 5},
    }
    result = [{"type": kind, "value": {**value, kind: ["crack"]}, **size} for kind, value in kinds.items()]
    return [{"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": [{"result": result}]}]


def _supervisely() -> dict:
    data = base64.b64encode(zlib.compress(picture(np.ones((3, 4), np.uint8)))).decode()
    objects = [
        {"classTitle": "hole", "geometryType": "polygon",
         "points": {"exterior": _CORNERS, "interior": [[[4, 3], [6, 3], [6, 5]]]}},
        {"classTitle": "hole", "geometryType": "rectangle", "points": {"exterior": [[1, 1], [3, 3]], "interior": []}},
        {"classTitle": "crack", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [5, 4]}},
    ]  # fmt: skip
    return {"size": {"height": _SIZE[0], "width": _SIZE[1]}, "objects": objects, "tags": []}


def _archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("e/images/a.jpg", _photo())
        archive.writestr("e/labels/a.txt", "0 .1 .1 .9 .1 .9 .9\n")
        archive.writestr("e/data.yaml", "names: [crack]\n")
    return stream.getvalue()


_CLASSES = [{"title": "crack", "shape": "bitmap", "color": "#FA3253"}, {"title": "hole", "shape": "polygon"}]
_VOC = {"JPEGImages/a.jpg": _photo(), "SegmentationClass/a.png": picture(_COLOURS)}
_LABELMAP = "# label:color_rgb:parts:actions\ncrack:250,50,83::\nbackground:0,0,0::\nignored:224,224,192::\n"
_NUMBERS = picture(_INSIDE.astype(np.uint8))
_YOLO = {"images/a.jpg": _photo(), "images/b.jpg": _photo(), "labels/b.txt": b"1 .1 .1 .9 .1 .9 .9\n"}
_NNUNET = {"imagesTr/a_0000.png": picture(_COLOURS), "labelsTr/a.png": _NUMBERS}
_ADE = "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t1\t1\t1\twall\n2\t0.1\t1\t1\t0\tbuilding, edifice\n"

FORMATS: dict[str, Reader] = {
    "yolo": _reader("yolo", "labels/a.txt", "0 .1 .1 .9 .1 .9 .9\n1 .5 .5 .2 .2\n1 0 0 1 0 1 1 0 1\n", beside=_YOLO),
    "yolo-yaml": _reader(
        "yolo", "data.yaml", "path: ../data\ntrain: ../images\nnc: 2\nnames: [crack, hole]\n",
        "train: labels/list.txt\nval: [images]\nnames:\n  0: crack\n  1: hole\n",
        beside={**_YOLO, "labels/a.txt": b"", "labels/list.txt": b"./images/a.jpg\n"},
    ),
    "yolo-names": _reader("yolo", "classes.txt", "crack\nhole\n", beside={**_YOLO, "labels/a.txt": b""}),
    "labelme": _reader("labelme", "a.json", _labelme(), {**_labelme(), "imageData": None, "imagePath": "a.jpg"},
                       beside={"a.jpg": _photo()}),
    "labelme-image": _reader("labelme", "a.json", _labelme()),
    "voc-colours": _reader("voc", "SegmentationClass/a.png", picture(_COLOURS), _NUMBERS,
                           beside={**_VOC, "labelmap.txt": _LABELMAP.encode()}),
    "voc-labels": _reader("voc", "labelmap.txt", _LABELMAP, beside=_VOC),
    "voc-names": _reader("voc", "class_names.txt", "__ignore__\n_background_\ncrack\n",
                         beside={**_VOC, "SegmentationClass/a.png": _NUMBERS}),
    "voc-lists": _reader("voc", "ImageSets/Segmentation/train.txt", "a\na.jpg\n",
                         beside={**_VOC, "labelmap.txt": _LABELMAP.encode()}),
    "cvat": _reader("cvat", "annotations.xml", _cvat(), beside={"images/a.jpg": _photo()}),
    "roboflow": _reader("roboflow", "_classes.csv", "Pixel Value, Class\n0, background\n1, crack\n",
                        beside={"a.jpg": _photo(), "a_mask.png": _NUMBERS}),
    "labelstudio": _reader("labelstudio", "project.json", _label_studio(), beside={"0123abcd-a.jpg": _photo()}),
    "supervisely": _reader("supervisely", "s/ann/a.jpg.json", _supervisely(),
                           beside={"meta.json": _content({"classes": _CLASSES}), "s/img/a.jpg": _photo()}),
    "supervisely-meta": _reader("supervisely", "meta.json", {"classes": _CLASSES}, beside={
        "s/ann/a.jpg.json": _content(_supervisely()), "s/img/a.jpg": _photo()}),
    "nnunet": _reader("nnunet", "dataset.json",
                      {"channel_names": {"0": "R"}, "labels": {"background": 0, "cell": 1, "ignore": 2},
                       "file_ending": ".png"}, {"labels": {"0": "background", "1": "cell"}}, beside=_NNUNET),
    "mmseg": _reader("mmseg", "objectInfo150.txt", _ADE, beside={
        "images/training/a.jpg": _photo(), "annotations/training/a.png": _NUMBERS}),
    "pairs": _reader("pairs", "a_mask.png", picture(_INSIDE * np.uint8(255)), _NUMBERS, beside={"a.jpg": _photo()}),
    "bright": _reader("pairs", "a_mask.jpg", picture(_INSIDE * np.uint8(255), "JPEG"), beside={"a.jpg": _photo()},
                      threshold=128),
    "instances": _reader("instances", "a_masks.tif", _tiff(), beside={"a.png": picture(_COLOURS)},
                         instances="border"),
    "export": _reader("auto", "export.zip", _archive()),
}  # fmt: skip
