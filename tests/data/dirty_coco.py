"""COCO annotations that are not as they should be."""

import json
import shutil

from tests.data.dirty import Case, Data

SQUARE = [2, 2, 9, 2, 9, 9, 2, 9]


def coco(change=lambda fields: fields):
    """The training images with annotations in the place of masks, changed by a function."""

    def spoil(data: Data) -> None:
        (data.root / "train" / "images").rename(data.root / "images")
        for split in ("train", "val"):
            shutil.rmtree(data.root / split)
        fields = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 16, "height": 12} for i in range(4)],
            "categories": [{"id": 1, "name": "crack"}],
            "annotations": [{"id": i, "image_id": i, "category_id": 1, "segmentation": [SQUARE]} for i in range(4)],
        }
        changed = change(fields)
        text = changed if isinstance(changed, str) else json.dumps(changed)
        (data.root / "train.json").write_text(text, encoding="utf-8")

    return spoil


def put(*keys, value):
    """One entry of the file replaced."""

    def change(fields):
        place = fields
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return fields

    return coco(change)


def drop(*keys):
    def change(fields):
        place = fields
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]
        return fields

    return coco(change)


def segmentation(value):
    return put("annotations", 1, "segmentation", value=value)


def same_image_id(fields):
    fields["images"][2]["id"] = 1
    return fields


def same_file(fields):
    fields["images"][2]["file_name"] = "1.png"
    return fields


def as_floats(fields):
    """As tables write them in which a number is missing somewhere."""
    for one in fields["annotations"]:
        one["image_id"], one["category_id"] = float(one["image_id"]), float(one["category_id"])
    return fields


def without_area(fields):
    fields["annotations"][1]["segmentation"] = [[4.1, 4.1, 4.2, 4.1, 4.2, 4.2]]
    fields["annotations"][2]["segmentation"] = {"size": [12, 16], "counts": [192]}
    return fields


def other_ids(fields):
    for one in fields["annotations"]:
        one["image_id"] += 90
    return fields


CASES = [
    Case("as it should be", coco(), []),
    Case(
        "cut short",
        coco(lambda fields: json.dumps(fields)[:300]),
        [
            "refused: DATA/train.json is not valid JSON of COCO annotations: it goes wrong in line 1, "
            "column 298. Export it again.",
        ],
    ),
    Case(
        "no categories",
        put("categories", value=[]),
        [
            "refused: DATA/train.json names no categories, so there is nothing to learn. Export it with its "
            "categories.",
        ],
    ),
    Case(
        "categories missing",
        drop("categories"),
        [
            "refused: DATA/train.json is not a COCO annotation file: 'categories' is missing. It needs "
            "the lists images, annotations and categories.",
        ],
    ),
    Case(
        "a category twice",
        put("categories", value=[{"id": 1, "name": "crack"}, {"id": 2, "name": "crack"}]),
        [
            "refused: DATA/train.json has more than one category called 'crack'. Give each its own name.",
        ],
    ),
    Case(
        "a category without name",
        put("categories", value=[{"id": 1}]),
        [
            "refused: DATA/train.json is not a COCO annotation file: 'name' is missing. It needs the "
            "lists images, annotations and categories.",
        ],
    ),
    Case(
        "no images",
        put("images", value=[]),
        [
            "refused: DATA holds no usable sample. DATA/train.json has annotations of image id 0, which it "
            "does not list (and 3 more such ids). Export it again, or remove them.",
        ],
    ),
    Case(
        "images as numbers",
        put("images", value=[1, 2]),
        [
            "refused: DATA/train.json is not a COCO annotation file: an entry is of another kind. It needs "
            "the lists images, annotations and categories.",
        ],
    ),
    Case(
        "an image without name",
        drop("images", 1, "file_name"),
        [
            "refused: DATA/train.json is not a COCO annotation file: 'file_name' is missing. It needs "
            "the lists images, annotations and categories.",
        ],
    ),
    Case(
        "an image that is missing",
        put("images", 1, "file_name", value="gone.png"),
        [
            "error: DATA/train.json lists gone.png, which is in none of the folders DATA/images, DATA. Put "
            "the images into one of them.",
        ],
    ),
    Case(
        "an image of a very long name",
        put("images", 1, "file_name", value="x" * 300),
        [
            "error: DATA/train.json lists "
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
            "xxxxxxxxxxxxxxx, which is in none of the folders DATA/images, DATA. Put the images into one of "
            "them.",
        ],
    ),
    Case(
        "an image without size",
        drop("images", 1, "width"),
        [
            "error: DATA/train.json (annotations of 1.png) has no height and width in whole pixels. Export "
            "it with image sizes.",
        ],
    ),
    Case(
        "an image of another size",
        put("images", 1, "width", value=12),
        [
            "error: DATA/train.json (annotations of 1.png) is 12x12 pixels (width x height), but its image "
            "DATA/images/1.png is 16x12. Give both the same size.",
        ],
    ),
    Case(
        "a huge size",
        put("images", 1, "width", value=10**9),
        [
            "error: DATA/train.json (annotations of 1.png) states 1000000000x12 pixels, which is too large. "
            "Cut the image into tiles.",
        ],
    ),
    Case(
        "a negative size",
        put("images", 1, "width", value=-16),
        [
            "error: DATA/train.json (annotations of 1.png) has no height and width in whole pixels. Export "
            "it with image sizes.",
        ],
    ),
    Case(
        "no annotations",
        put("annotations", value=[]),
        [
            "error: The masks of the split 'train' of DATA hold only background, so there is nothing to "
            "learn. Check the masks.",
        ],
    ),
    Case(
        "images without annotation",
        coco(lambda fields: {**fields, "annotations": fields["annotations"][2:]}),
        [
            "warning: 2 of 4 images of DATA/train.json (the first is 0.png) have no annotation and count as "
            "background. Annotate them if they show something.",
        ],
    ),
    Case(
        "two images with one id",
        coco(same_image_id),
        [
            "refused: DATA/train.json gives the id 1 to two images, '1.png' and '2.png'. Give each its own, in the "
            "annotations too.",
        ],
    ),
    Case(
        "two categories with one id",
        put("categories", value=[{"id": 1, "name": "crack"}, {"id": 1, "name": "hole"}]),
        [
            "refused: DATA/train.json gives the id 1 to two categories, 'crack' and 'hole'. Give each its own, in the "
            "annotations too.",
        ],
    ),
    Case(
        "a category id with a fraction",
        put("annotations", 1, "category_id", value=1.7),
        [
            "refused: DATA/train.json holds something else than COCO annotations (the id 1.7 is no whole number). "
            "Export it again.",
        ],
    ),
    Case(
        "an image id with a fraction",
        put("images", 1, "id", value=1.7),
        [
            "refused: DATA/train.json holds something else than COCO annotations (the id 1.7 is no whole number). "
            "Export it again.",
        ],
    ),
    Case("ids as whole floats", coco(as_floats), []),
    Case(
        "one file with two ids",
        coco(same_file),
        [
            "warning: DATA/train.json lists 1.png twice, with the ids 1 and 2, so that annotations of the one are "
            "background in the other. Put them together under one id.",
        ],
    ),
    Case(
        "annotations of no image",
        put("annotations", 1, "image_id", value=99),
        [
            "warning: DATA/train.json has annotations of image id 99, which it does not list. Export it "
            "again, or remove them.",
            "warning: 1 of 4 images of DATA/train.json (the first is 1.png) has no annotation and counts as "
            "background. Annotate them if they show something.",
        ],
    ),
    Case(
        "ids that never fit",
        coco(other_ids),
        [
            "error: DATA/train.json has annotations of image id 90, which it does not list (and 3 more such "
            "ids). Export it again, or remove them.",
            "error: The masks of the split 'train' of DATA hold only background, so there is nothing to "
            "learn. Check the masks.",
        ],
    ),
    Case(
        "an unknown category",
        put("annotations", 1, "category_id", value=7),
        [
            "error: DATA/train.json (annotations of 1.png) names the category 7, which is not listed.",
        ],
    ),
    Case(
        "a category as text",
        put("annotations", 1, "category_id", value="crack"),
        [
            "refused: DATA/train.json holds something else than COCO annotations (invalid literal for int() "
            "with base 10: 'crack'). Export it again.",
        ],
    ),
    Case(
        "no segmentation",
        drop("annotations", 1, "segmentation"),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (it has no "
            "segmentation). Correct or remove it.",
        ],
    ),
    Case(
        "an empty segmentation",
        segmentation([]),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (it has no "
            "segmentation). Correct or remove it.",
        ],
    ),
    Case(
        "a line",
        segmentation([[1, 1, 5, 5]]),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (a polygon is not "
            "a list x, y, x, y, ... of three points or more). Correct or remove it.",
        ],
    ),
    Case(
        "an odd number of coordinates",
        segmentation([[1, 1, 5, 5, 9, 1, 3]]),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (a polygon is not "
            "a list x, y, x, y, ... of three points or more). Correct or remove it.",
        ],
    ),
    Case(
        "coordinates as text",
        segmentation([["a", "b", "c", "d", "e", "f"]]),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (could not convert "
            "string to float: 'a'). Correct or remove it.",
        ],
    ),
    Case(
        "NaN",
        segmentation([[1, 1, float("nan"), 5, 9, 1]]),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (a polygon is not "
            "a list x, y, x, y, ... of three points or more). Correct or remove it.",
        ],
    ),
    Case(
        "far outside",
        segmentation([[1e9, 1e9, 2e9, 1e9, 2e9, 2e9]]),
        [
            "warning: 1 annotation covers no pixel in DATA/train.json (the first is annotation 1 of "
            "DATA/images/1.png), so nothing is learned from it. Enlarge or remove what is too small or outside of its "
            "image.",
        ],
    ),
    Case(
        "annotations smaller than a pixel",
        coco(without_area),
        [
            "warning: 2 annotations cover no pixel in DATA/train.json (the first is annotation 1 of "
            "DATA/images/1.png), so nothing is learned from them. Enlarge or remove what is too small or outside of "
            "its image.",
        ],
    ),
    Case(
        "run lengths of another size",
        segmentation({"size": [5, 5], "counts": [25]}),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (its size [5, 5] "
            "is not that of the image, [12, 16]). Correct or remove it.",
        ],
    ),
    Case(
        "run lengths that do not add up",
        segmentation({"size": [12, 16], "counts": [5, 5]}),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (its run lengths "
            "add up to 10 pixels instead of 192). Correct or remove it.",
        ],
    ),
    Case(
        "damaged run lengths",
        segmentation({"size": [12, 16], "counts": "o" * 40}),
        [
            "error: DATA/train.json (annotations of 1.png): annotation 1 cannot be drawn (its compressed "
            "run lengths are damaged). Correct or remove it.",
        ],
    ),
]
