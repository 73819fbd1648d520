"""COCO annotations that are not as they should be."""

import json
import shutil

from tests.data.dirty import Case, Data, error, refused, warning

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
        [refused("train.json", "JSON", "line 1, column 298")],
    ),
    Case(
        "no categories",
        put("categories", value=[]),
        [refused("train.json", "no categories")],
    ),
    Case(
        "categories missing",
        drop("categories"),
        [refused("train.json", "'categories'")],
    ),
    Case(
        "a category twice",
        put("categories", value=[{"id": 1, "name": "crack"}, {"id": 2, "name": "crack"}]),
        [refused("train.json", "category", "'crack'")],
    ),
    Case(
        "a category without name",
        put("categories", value=[{"id": 1}]),
        [refused("train.json", "'name'")],
    ),
    Case(
        "no images",
        put("images", value=[]),
        [refused(".", "image id 0", "3 more", "train.json")],
    ),
    Case(
        "images as numbers",
        put("images", value=[1, 2]),
        [refused("train.json", "entry")],
    ),
    Case(
        "an image without name",
        drop("images", 1, "file_name"),
        [refused("train.json", "'file_name'")],
    ),
    Case(
        "an image that is missing",
        put("images", 1, "file_name", value="gone.png"),
        [error("missing-pair", "gone.png", "gone.png", "train.json", "images")],
    ),
    Case(
        "an image of a very long name",
        put("images", 1, "file_name", value="x" * 300),
        [
            error(
                "missing-pair",
                "x" * 300,
                "x" * 300,
                "train.json",
                "images",
            )
        ],
    ),
    Case(
        "an image without size",
        drop("images", 1, "width"),
        [],
    ),
    Case(
        "an image of another size",
        put("images", 1, "width", value=12),
        [error("unreadable", "train.json (annotations of 1.png)", "12x12", "16x12", "same size", "images/1.png")],
    ),
    Case(
        "a huge size",
        put("images", 1, "width", value=10**9),
        [error("unreadable", "train.json (annotations of 1.png)", "1000000000x12", "too large")],
    ),
    Case(
        "a negative size",
        put("images", 1, "width", value=-16),
        [error("unreadable", "train.json (annotations of 1.png)", "height", "width")],
    ),
    Case(
        "no annotations",
        put("annotations", value=[]),
        [error("absent-class", ".", "train", "only background")],
    ),
    Case(
        "images without annotation",
        coco(lambda fields: {**fields, "annotations": fields["annotations"][2:]}),
        [warning("no-annotation", "train.json", "2 of 4", "no annotation")],
    ),
    Case(
        "two images with one id",
        coco(same_image_id),
        [refused("train.json", "id 1", "two images", "'1.png'", "'2.png'")],
    ),
    Case(
        "two categories with one id",
        put("categories", value=[{"id": 1, "name": "crack"}, {"id": 1, "name": "hole"}]),
        [refused("train.json", "id 1", "two categories", "'crack'", "'hole'")],
    ),
    Case(
        "a category id with a fraction",
        put("annotations", 1, "category_id", value=1.7),
        [refused("train.json", "1.7", "whole number")],
    ),
    Case(
        "an image id with a fraction",
        put("images", 1, "id", value=1.7),
        [refused("train.json", "1.7", "whole number")],
    ),
    Case("ids as whole floats", coco(as_floats), []),
    Case(
        "one file with two ids",
        coco(same_file),
        [warning("duplicate-image", "images/1.png", "1.png", "1 and 2", "train.json")],
    ),
    Case(
        "annotations of no image",
        put("annotations", 1, "image_id", value=99),
        [
            warning("wrong-ids", "train.json", "image id 99"),
            warning("no-annotation", "train.json", "1 of 4", "no annotation"),
        ],
    ),
    Case(
        "ids that never fit",
        coco(other_ids),
        [
            error("wrong-ids", "train.json", "image id 90", "3 more"),
            error("absent-class", ".", "train", "only background"),
        ],
    ),
    Case(
        "an unknown category",
        put("annotations", 1, "category_id", value=7),
        [error("unreadable", "train.json (annotations of 1.png)", "category 7")],
    ),
    Case(
        "a category as text",
        put("annotations", 1, "category_id", value="crack"),
        [refused("train.json", "COCO", "'crack'")],
    ),
    Case(
        "no segmentation",
        drop("annotations", 1, "segmentation"),
        [warning("unseen-annotation", "train.json", "annotation 1", "1 annotation", "no pixel")],
    ),
    Case(
        "an empty segmentation",
        segmentation([]),
        [warning("unseen-annotation", "train.json", "annotation 1", "1 annotation", "no pixel")],
    ),
    Case(
        "a line",
        segmentation([[1, 1, 5, 5]]),
        [warning("unseen-annotation", "train.json", "annotation 1", "1 annotation", "no pixel")],
    ),
    Case(
        "an odd number of coordinates",
        segmentation([[1, 1, 5, 5, 9, 1, 3]]),
        [error("unreadable", "train.json (annotations of 1.png)", "annotation 1", "polygon")],
    ),
    Case(
        "coordinates as text",
        segmentation([["a", "b", "c", "d", "e", "f"]]),
        [error("unreadable", "train.json (annotations of 1.png)", "annotation 1", "'a'")],
    ),
    Case(
        "NaN",
        segmentation([[1, 1, float("nan"), 5, 9, 1]]),
        [error("unreadable", "train.json (annotations of 1.png)", "annotation 1", "polygon")],
    ),
    Case(
        "far outside",
        segmentation([[1e9, 1e9, 2e9, 1e9, 2e9, 2e9]]),
        [warning("unseen-annotation", "train.json", "1 annotation", "annotation 1", "images/1.png")],
    ),
    Case(
        "annotations smaller than a pixel",
        coco(without_area),
        [warning("unseen-annotation", "train.json", "2 annotations", "annotation 1", "images/1.png")],
    ),
    Case(
        "run lengths of another size",
        segmentation({"size": [5, 5], "counts": [25]}),
        [error("unreadable", "train.json (annotations of 1.png)", "annotation 1", "[5, 5]", "[12, 16]")],
    ),
    Case(
        "run lengths that do not add up",
        segmentation({"size": [12, 16], "counts": [5, 5]}),
        [error("unreadable", "train.json (annotations of 1.png)", "annotation 1", "10", "192")],
    ),
    Case(
        "damaged run lengths",
        segmentation({"size": [12, 16], "counts": "o" * 40}),
        [error("unreadable", "train.json (annotations of 1.png)", "annotation 1", "compressed")],
    ),
]
