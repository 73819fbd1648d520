"""Each form of data as its own tool writes it becomes the masks that an independent drawing says."""

import base64
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage
from skimage import draw

from convlora.api.convert_data import convert_data
from convlora.data.checking.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from tests.converting import sources
from tests.converting.sources import CORNERS, DRAWN, INSIDE, SIZE

TRIANGLE = [(3.25, 2.0), (33.0, 6.0), (12.0, 27.0)]


def agrees_with_scikit_image(values):
    """Whether the triangle is drawn, but for pixels that its outline touches: there drawers differ."""
    rows, columns = draw.polygon([y - 0.5 for _, y in TRIANGLE], [x - 0.5 for x, _ in TRIANGLE], SIZE)
    middle = np.zeros(SIZE, bool)
    middle[rows, columns] = True
    inside, around = ndimage.binary_erosion(middle), ndimage.binary_dilation(middle, np.ones((3, 3)))
    return bool(values[inside].all() and not values[~around].any())


def convert(source, output, **options):
    made = convert_data(source, output, **options)
    report = check_data(open_data(output), full=True)
    assert not report.errors, report.errors
    return made, sources.read(output)


def kinds(made):
    return {problem["kind"] for problem in made["problems"]}


def direct(source):
    """What `train` reads, by split and name."""
    opened = open_data(source)
    report = check_data(opened, full=True)
    return {
        f"{split}/{sample.name}": read_sample(sample, report.classes)[1]
        for split, samples in opened.splits.items()
        for sample in samples
    }


def test_yolo(tmp_path):
    root = sources.yolo(tmp_path / "y")
    corners = " ".join(f"{x / SIZE[1]} {y / SIZE[0]}" for x, y in TRIANGLE)
    sources.text(root / "train/labels/0.txt", f"0 {corners}\n1 .1 .1 .2 .2\nnonsense\n")
    (root / "val").mkdir()
    (root / "valid/labels/1.txt").unlink()
    made, masks = convert(root, tmp_path / "d")
    assert made["format"] == "yolo"
    assert made["counts"] == {"train": 2, "val": 2, "test": 2}
    assert made["classes"]["classes"] == ["background", "crack", "hole"]
    assert np.array_equal(masks["test/masks/0.png"], 2 * INSIDE)
    assert not masks["val/masks/1.png"].any()
    assert agrees_with_scikit_image(masks["train/masks/0.png"])
    both = coco_mask.decode(coco_mask.frPyObjects([[part for point in TRIANGLE for part in point]], *SIZE)[0])
    assert np.array_equal(masks["train/masks/0.png"], both)
    assert kinds(made) == {"box", "broken-label", "no-annotation"}
    assert (tmp_path / "d/train/images/0.jpg").read_bytes() == (root / "train/images/0.jpg").read_bytes()
    assert np.array_equal(direct(root)["test/0"], 2 * INSIDE)
    assert "data:image/jpeg" in (tmp_path / "d/overlays.html").read_text()


THIN = np.zeros(SIZE, bool)
THIN[4:12, 5:17] = THIN[6, 17:30] = THIN[7, 29:33] = THIN[12:20, 9] = True
# What cv2.findContours finds of it.
TRACED = [
    [5, 4], [5, 11], [8, 11], [9, 12], [9, 19], [9, 12], [10, 11], [16, 11], [16, 7], [17, 6], [28, 6], [29, 7],
    [32, 7], [30, 7], [29, 6], [17, 6], [16, 5], [16, 4],
]  # fmt: skip


@pytest.mark.parametrize("digits", [5, 6, 16])
def test_outlines_traced_from_masks_give_them_back(tmp_path, digits):
    corners = " ".join(f"{x / SIZE[1]:.{digits}f} {y / SIZE[0]:.{digits}f}" for x, y in TRACED)
    sources.image(tmp_path / "y/a.jpg")
    sources.text(tmp_path / "y/a.txt", f"0 {corners}\n")
    assert np.array_equal(direct(tmp_path / "y")["all/a"], THIN)
    if digits == 5:
        sources.image(tmp_path / "l/a.jpg")
        points = [[float(x), float(y)] for x, y in TRACED]
        sources.labelme_file(tmp_path / "l/a.json", [{"label": "crack", "points": points}])
        assert np.array_equal(direct(tmp_path / "l")["all/a"], THIN)


def test_smaller_objects_of_yolo_are_on_top(tmp_path):
    root = sources.yolo(tmp_path / "y", splits=("train",), number=1)
    large = (root / "train/labels/0.txt").read_text()
    small = " ".join(f"{x / SIZE[1]} {y / SIZE[0]}" for x, y in ((10.2, 10), (15, 10), (15, 14), (10, 14)))
    sources.text(root / "train/labels/0.txt", f"0 {small}\n{large}")
    _, masks = convert(root, tmp_path / "d", split="none")
    expected = 2 * INSIDE.astype(int)
    expected[10:14, 10:15] = 1
    assert np.array_equal(masks["train/masks/0.png"], expected)


def test_yolo_of_boxes_is_refused(tmp_path):
    root = sources.yolo(tmp_path / "y", splits=("train",), number=1)
    sources.text(root / "train/labels/0.txt", "0 .5 .5 .2 .2\n")
    with pytest.raises(InputError, match="boxes only"):
        convert_data(root, tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


@pytest.mark.parametrize("folder", [".", "images", "{split}", "images/{split}"])
@pytest.mark.parametrize("described", [True, False])
def test_yolo_beside_images(tmp_path, folder, described):
    root = tmp_path / "y"
    corners = " ".join(f"{x / SIZE[1]} {y / SIZE[0]}" for x, y in DRAWN)
    for place, split in enumerate(("train", "valid")):
        for one in range(2):
            name = folder.format(split=split)
            sources.image(root / name / f"{split}{one}.jpg", place)
            sources.text(root / name / f"{split}{one}.txt", f"1 {corners}\n" if one else "")
    name = folder.format(split="train")
    if described:
        places = f"train: {name}\nval: {folder.format(split='valid')}\n" if "{" in folder else ""
        sources.text(root / "data.yaml", f"{places}names: [crack, hole]\n")
    else:
        sources.text(root / name / "classes.txt", "crack\nhole\n")  # where labelImg writes it
    sources.text(root / name / "read me.txt", "Leaves, seen from above.\n")
    sources.text(root / name / "gone.txt", f"1 {corners}\n")
    read = direct(root)
    splits = ("train", "val") if "{" in folder else ("all", "all")
    expected = {f"{splits[place]}/{split}{one}": 2 * one * INSIDE
                for place, split in enumerate(("train", "valid")) for one in range(2)}  # fmt: skip
    assert {Path(name).parts[0] + "/" + Path(name).name for name in read} == set(expected)
    assert all(np.array_equal(values, expected[f"{Path(name).parts[0]}/{Path(name).name}"])
               for name, values in read.items())  # fmt: skip
    opened = open_data(root)
    assert opened.classes.names == ("background", "crack", "hole")
    assert [problem.path for problem in opened.problems] == [str(root / name / "gone.txt")]


def test_yolo_beside_images_is_converted(tmp_path):
    root = tmp_path / "images" / "y"  # a folder above that is called images means nothing
    corners = " ".join(f"{x / SIZE[1]} {y / SIZE[0]}" for x, y in DRAWN)
    for one in range(4):
        sources.image(root / f"{one}.jpg", one)
        sources.text(root / f"{one}.txt", f"0 {corners}\n")
    made, masks = convert(root, tmp_path / "d", split="none")
    assert made["format"] == "yolo"
    assert made["classes"]["classes"] == ["background", "class 0"]
    assert len(masks) == 4
    assert all(np.array_equal(one, INSIDE) for one in masks.values())


def test_boxes_beside_images_are_refused_unless_there_are_masks(tmp_path):
    for one in range(2):
        sources.image(tmp_path / "y" / f"{one}.jpg", one)
        sources.text(tmp_path / "y" / f"{one}.txt", "0 .5 .5 .2 .2\n")
    with pytest.raises(InputError, match="boxes only"):
        open_data(tmp_path / "y")
    for one in range(2):
        sources.mask(tmp_path / "y" / f"{one}_mask.png", INSIDE)
    assert open_data(tmp_path / "y").kind == "pairs"


def test_yolo_without_any_outline_is_refused(tmp_path):
    root = sources.yolo(tmp_path / "y", splits=("train",))  # as datumaro writes polygons: it leaves them out
    for path in (root / "train/labels").iterdir():
        path.write_text("")
    with pytest.raises(InputError, match="No label file"):
        open_data(root)


def test_two_lists_of_yolo_classes_must_agree(tmp_path):
    root = sources.yolo(tmp_path / "y")
    (root / "data.yaml").unlink()
    sources.text(root / "train/labels/classes.txt", "crack\nhole\n")
    sources.text(root / "test/labels/classes.txt", "hole\ncrack\n")
    with pytest.raises(InputError, match="list different classes"):
        open_data(root)


def test_coco(tmp_path):
    for name in "ab":
        sources.image(tmp_path / "c/images" / f"{name}.jpg")
    runs = coco_mask.encode(np.asfortranarray(INSIDE.astype(np.uint8)))
    plain = [int(n) for n in sources.runs(INSIDE.T.ravel())]
    sources.text(tmp_path / "c/annotations.json", {
        "images": [{"id": place, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
                   for place, name in enumerate("ab")],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1,
             "segmentation": {"size": SIZE, "counts": runs["counts"].decode()}},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": SIZE, "counts": plain}},
        ],
    })  # fmt: skip
    made, masks = convert(tmp_path / "c", tmp_path / "d", split="none")
    assert made["format"] == "coco"
    assert all(np.array_equal(one, INSIDE) for one in masks.values())
    assert set(masks) == {"masks/a.png", "masks/b.png"}


def test_coco_names_images_by_paths_of_another_machine(tmp_path):
    for name in "ab":
        sources.image(tmp_path / "c/images" / f"{name}.jpg")
    box = [[5, 4, 25, 4, 25, 20, 5, 20]]
    written = ["/data/upload/3/a.jpg", "C:\\photos\\b.jpg"]
    sources.text(tmp_path / "c/result.json", {
        "images": [{"id": place, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
                   for place, name in enumerate(written)],
        "categories": [{"id": 0, "name": "crack"}],
        "annotations": [{"id": place, "image_id": place, "category_id": 0, "segmentation": box} for place in (0, 1)],
    })  # fmt: skip
    read = direct(tmp_path / "c")
    assert len(read) == 2
    assert all(np.array_equal(one, INSIDE) for one in read.values())


def test_coco_of_stuff_has_its_splits(tmp_path):
    counts = [int(n) for n in sources.runs(INSIDE.T.ravel())]
    for split in ("train", "val"):
        sources.image(tmp_path / "c/images" / split / f"{split}.jpg")
        sources.text(tmp_path / f"c/annotations/stuff_{split}.json", {
            "images": [{"id": 1, "file_name": f"{split}.jpg", "height": SIZE[0], "width": SIZE[1]}],
            "categories": [{"id": 1, "name": "sky"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1,
                             "segmentation": {"size": SIZE, "counts": counts}}],
        })  # fmt: skip
    read = direct(tmp_path / "c")
    assert set(read) == {"train/train", "val/val"}
    assert all(np.array_equal(one, INSIDE) for one in read.values())


def test_labelme(tmp_path):
    root = tmp_path / "l"
    for name in "abcd":
        sources.image(root / f"{name}.jpg")
    stamp = np.zeros((16, 20), np.uint8)
    stamp[2:9, 3:14] = 1
    sources.labelme_file(root / "a.json", [
        {"label": "crack", "points": DRAWN},
        {"label": "hole", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"},
        {"label": "crack", "points": [[3, 3], [9, 9]], "shape_type": "line"},
    ])  # fmt: skip
    sources.labelme_file(root / "b.json", [
        {"label": "hole", "points": [[20, 15], [20, 22.5]], "shape_type": "circle"},
        {"label": "__ignore__", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"},
    ])  # fmt: skip
    mask = base64.b64encode(sources.base64_png(stamp)).decode()
    shape = {"label": "crack", "points": [[5.75, 4.5], [24.75, 19.5]], "shape_type": "mask", "mask": mask}  # moved
    sources.labelme_file(root / "c.json", [shape], imagePath="..\\photos\\c.jpg")
    content = base64.b64encode((root / "d.jpg").read_bytes()).decode()
    (root / "d.jpg").unlink()
    sources.labelme_file(root / "d.json", [], imageData=content)
    sources.image(root / "alone.jpg")
    made, masks = convert(root, tmp_path / "d", split="none")
    assert made["classes"]["classes"] == ["background", "crack", "hole"]
    expected = INSIDE.astype(int)
    expected[1:9, 1:9] = 2
    assert np.array_equal(masks["masks/a.png"], expected)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    circle = 2 * ((columns - 20) ** 2 + (rows - 15) ** 2 <= 7.5**2)
    circle[:2, :2] = 255
    assert np.array_equal(masks["masks/b.png"], circle)
    expected = np.zeros(SIZE)
    expected[4:20, 5:25] = stamp
    assert np.array_equal(masks["masks/c.png"], expected)
    assert not masks["masks/d.png"].any()
    assert kinds(made) == {"no-area", "no-annotation"}
    assert np.array_equal(direct(root)["all/b"], circle)


def test_voc_by_its_labelmap(tmp_path):
    root = sources.voc(tmp_path / "v")
    image = Image.frombytes("P", SIZE[::-1], (7 * INSIDE.astype(np.uint8)).tobytes())
    image.putpalette([0, 0, 0] * 7 + [250, 50, 83])
    image.save(root / "SegmentationClass/1.png")  # its numbers say nothing, its palette does
    sources.mask(root / "SegmentationClass/2.png", ~INSIDE)  # numbers of the lines, of which crack is the first
    made, masks = convert(root, tmp_path / "d")
    assert made["counts"] == {"train": 1, "val": 1, "test": 1}
    expected = INSIDE.astype(int)
    assert made["classes"]["classes"] == ["background", "crack"]
    for name, values in masks.items():
        border = 0 if name.endswith(("/1.png", "/2.png")) else 255
        assert values[0, 0] == border
        assert np.array_equal(values[1:], expected[1:])
    assert set(direct(root)) == {"train/0", "train/1", "val/2"}


def test_voc_without_labelmap_has_the_classes_of_voc(tmp_path):
    root = sources.voc(tmp_path / "v")
    (root / "labelmap.txt").unlink()
    for number in range(3):
        sources.mask(root / f"SegmentationClass/{number}.png", 15 * INSIDE, [0] * 768)
    made, masks = convert(root, tmp_path / "d", split="none")
    assert made["classes"]["classes"][15] == "person"
    assert np.array_equal(masks["val/masks/2.png"], 15 * INSIDE)


def test_cvat(tmp_path):
    piece = np.zeros((16, 20), bool)
    piece[3:9, 2:17] = True
    counts = ", ".join(map(str, sources.runs(piece.ravel())))
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in CORNERS)
    root = sources.cvat(tmp_path / "c", f"""
        <mask label="hole" occluded="0" rle="{counts}" left="5" top="4" width="20" height="16" z_order="1"/>
        <polygon label="crack" source="manual" occluded="0" points="{points}" z_order="0"></polygon>
        <box label="crack" xtl="30" ytl="20" xbr="35" ybr="25" z_order="0"></box>
        <polyline label="crack" points="1,1;2,2" z_order="0"></polyline>""")  # fmt: skip
    made, masks = convert(root, tmp_path / "d", split="none")
    expected = INSIDE.astype(int)
    expected[20:25, 30:35] = 1
    expected[4:20, 5:25][piece] = 2
    assert np.array_equal(masks["masks/0.png"], expected)
    assert not masks["masks/1.png"].any()
    assert kinds(made) == {"no-area", "no-annotation"}
    assert json.loads((tmp_path / "d/classes.json").read_text())["colors"][1] == [250, 50, 83]


def test_cvat_with_entities_is_refused(tmp_path):
    bomb = '<!DOCTYPE annotations [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    with pytest.raises(InputError, match="document type"):
        convert_data(sources.cvat(tmp_path / "c", "", bomb), tmp_path / "d")


def test_label_studio(tmp_path):
    root = tmp_path / "s"
    for name in ("0123abcd-a.jpg", "b.jpg", "c.jpg"):
        sources.image(root / name)
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[INSIDE] = (1, 2, 3, 255)
    size = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    points = [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in CORNERS]
    brush = {"format": "rle", "rle": sources.rle_pack(rgba.ravel().tolist()), "brushlabels": ["hole"]}
    small = {"x": 50, "y": 50, "width": 25, "height": 20, "rotation": 0, "rectanglelabels": ["hole"]}
    result = [{"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["crack"]}, **size},
              {"type": "rectanglelabels", "value": small, **size}]  # fmt: skip
    sources.text(root / "project.json", [
        {"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": [{"result": result}]},
        {"id": 2, "data": {"image": "/data/local-files/?d=some%2Fb.jpg"},
         "annotations": [{"result": [], "was_cancelled": True},
                         {"result": [{"type": "brushlabels", "value": brush, **size}]}]},
        {"id": 3, "data": {"image": "/data/upload/1/c.jpg"}, "annotations": []},
        {"id": 5, "data": {"image": "/data/upload/1/c.jpg"}, "annotations": [{"result": [
            {"id": "r", "type": "polygon", "value": {"points": points}, **size},
            {"id": "r", "type": "labels", "value": {"points": points, "labels": ["hole"]}, **size}]}]},
        {"id": 4, "data": {"image": "/data/upload/1/gone.jpg"}, "annotations": [{"result": []}]},
    ])  # fmt: skip
    made, masks = convert(root, tmp_path / "d", split="none")
    expected = INSIDE.astype(int)
    expected[15:21, 20:30] = 2
    assert np.array_equal(masks["masks/0123abcd-a.png"], expected)
    assert np.array_equal(masks["masks/b.png"], 2 * INSIDE)
    assert np.array_equal(masks["masks/c.png"], 2 * INSIDE)
    assert kinds(made) == {"no-annotation", "missing-pair"}
    assert {problem["severity"] for problem in made["problems"]} == {"warning"}  # the others were written


def test_supervisely(tmp_path):
    root = tmp_path / "s"
    classes = [{"title": "crack", "shape": "bitmap", "color": "#FA3253"},
               {"title": "hole", "shape": "polygon", "color": "#24B353"}]  # fmt: skip
    sources.text(root / "meta.json", {"classes": classes})
    stamp = np.ones((5, 6), np.uint8)
    stamp[0, 0] = 0
    data = base64.b64encode(zlib.compress(sources.base64_png(stamp, transparency=0))).decode()
    objects = [
        {"classTitle": "hole", "geometryType": "polygon",
         "points": {"exterior": CORNERS, "interior": [[[10, 8], [15, 8], [15, 12], [10, 12]]]}},
        {"classTitle": "crack", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [30, 20]}},
        {"classTitle": "crack", "geometryType": "line", "points": {"exterior": [[1, 1], [2, 2]], "interior": []}},
    ]  # fmt: skip
    for folder, drawn in (("train", objects), ("test", [])):
        sources.image(root / folder / "img/1.jpg", len(drawn))
        size = {"height": SIZE[0], "width": SIZE[1]}
        sources.text(root / folder / "ann/1.jpg.json", {"size": size, "objects": drawn, "tags": []})
    made, masks = convert(root, tmp_path / "d")
    expected = np.zeros(SIZE, int)
    expected[4:21, 5:26] = 2
    expected[8:13, 10:16] = 0
    expected[20:25, 30:36] = stamp
    assert np.array_equal(masks["train/masks/1.png"], expected)
    assert kinds(made) == {"no-area", "no-annotation"}


def test_roboflow(tmp_path):
    for place, split in enumerate(("train", "valid", "test")):
        folder = tmp_path / "r" / split
        for number in range(2):
            sources.image(folder / f"{number}.jpg", place)
            sources.mask(folder / f"{number}_mask.png", 2 * INSIDE)
        sources.text(folder / "_classes.csv", "Pixel Value, Class\n0, background\n1, crack\n2, hole\n")
    made, masks = convert(tmp_path / "r", tmp_path / "d")
    assert made["format"] == "roboflow"
    assert made["classes"]["classes"] == ["background", "crack", "hole"]
    assert len(masks) == 6
    assert all(np.array_equal(one, 2 * INSIDE) for one in masks.values())
    assert len(direct(tmp_path / "r")) == 6


def test_nnunet(tmp_path):
    root = tmp_path / "n"
    labels = {"background": 0, "cell": 1, "ignore": 2}
    sources.text(root / "dataset.json", {"channel_names": {"0": "R"}, "labels": labels, "file_ending": ".png"})
    values = INSIDE.astype(int)
    values[0] = 2
    for number in range(3):
        sources.image(root / f"imagesTr/case_{number}_0000.png", number)
        sources.mask(root / f"labelsTr/case_{number}.png", values)
    _, masks = convert(root, tmp_path / "d")
    values[0] = 255
    assert len(masks) == 3
    assert all(np.array_equal(one, values) for one in masks.values())


@pytest.mark.parametrize(
    ("images", "masks", "end"),
    [("images/training", "annotations/training", ""), ("img_dir/train", "ann_dir/train", "_labelTrainIds")],
)
def test_mmsegmentation(tmp_path, images, masks, end):
    for number in range(3):
        sources.image(tmp_path / "m" / images / f"{number}.jpg", number)
        sources.mask(tmp_path / "m" / masks / f"{number}{end}.png", INSIDE)
    made, read = convert(tmp_path / "m", tmp_path / "d")
    assert made["format"] == "mmseg"
    assert made["counts"] == {"train": 1, "val": 1, "test": 1}
    assert all(np.array_equal(one, INSIDE) for one in read.values())


@pytest.mark.parametrize("prepared", [False, True])
def test_cityscapes(tmp_path, prepared):
    for split in ("train", "val"):
        sources.image(tmp_path / "c/leftImg8bit" / split / "ulm/ulm_0_leftImg8bit.png")
        masks = tmp_path / "c/gtFine" / split / "ulm"
        sources.mask(masks / "ulm_0_gtFine_labelIds.png", INSIDE + 1)
        sources.mask(masks / "ulm_0_gtFine_instanceIds.png", 9 * INSIDE)
        sources.image(masks / "ulm_0_gtFine_color.png")
        if prepared:
            sources.mask(masks / "ulm_0_gtFine_labelTrainIds.png", INSIDE)
    opened = open_data(tmp_path / "c")
    assert opened.kind == "mmseg"
    assert [len(some) for some in opened.splits.values()] == [1, 1]
    for samples in opened.splits.values():
        assert np.array_equal(np.asarray(Image.open(samples[0].mask)), INSIDE if prepared else INSIDE + 1)


@pytest.mark.parametrize("border", [False, True])
def test_numbered_objects(tmp_path, border):
    numbers = np.zeros(SIZE, int)
    numbers[5:15, 5:15], numbers[5:15, 15:30] = 1, 2
    for number in range(3):
        sources.image(tmp_path / "i" / f"{number}.png", number)
        sources.mask(tmp_path / "i" / f"{number}_cp_masks.png", numbers)
    made, masks = convert(tmp_path / "i", tmp_path / "d", **({"instances": "border"} if border else {}))
    expected = (numbers > 0).astype(int)
    if border:
        for row, column in np.argwhere(numbers):
            around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            if any(numbers[place] != numbers[row, column] for place in around):
                expected[row, column] = 2
    assert made["format"] == "instances"
    assert all(np.array_equal(one, expected) for one in masks.values())


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_soft_masks_by_threshold(tmp_path, kind):
    root = tmp_path / "p"
    soft = np.where(INSIDE, 200, 40).astype(np.uint8)
    for number in range(4):
        sources.image(root / f"{number}.png", number)
        Image.fromarray(soft).save(root / f"{number}-truth.{kind}")
    with pytest.raises(InputError, match="layout"):
        convert_data(root, tmp_path / "d")
    _, masks = convert(root, tmp_path / "d", suffix="-truth", threshold=128)
    wrong = sum((one != INSIDE).sum() for one in masks.values())
    assert wrong == 0 if kind == "png" else wrong < 40


def test_a_zip_is_read_like_the_folder(tmp_path):
    root = sources.yolo(tmp_path / "y")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, f"export/{path.relative_to(root)}")
    made, masks = convert(tmp_path / "y.zip", tmp_path / "d")
    convert(root, tmp_path / "e")
    assert all(np.array_equal(one, sources.read(tmp_path / "e")[name]) for name, one in masks.items())
    assert str(tmp_path / "y.zip") in made["notes"][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "e", "y", "y.zip"]
