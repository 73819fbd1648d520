import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from convlora.data.checking.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from tests.data.dirty import png_of_size

SIZE = (30, 40)  # (height, width)
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def square(left, top, side):
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def instances(folder, name="instances_train2017.json", images="train2017", annotations=None, **more):
    """A data set of one image with a large cat, a small dog on it, and a run-length encoded dog."""
    (folder / images).mkdir(parents=True)
    Image.new("RGB", SIZE[::-1], "grey").save(folder / images / "1.jpg")
    far = np.zeros(SIZE, dtype=np.uint8)
    far[25:, 35:] = 1
    runs = coco_mask.encode(np.asfortranarray(far))
    if annotations is None:
        annotations = [
            {"id": 1, "image_id": 5, "category_id": 7, "segmentation": [square(10, 10, 4)]},
            {"id": 2, "image_id": 5, "category_id": 3, "segmentation": [square(5, 5, 15)]},
            {"id": 3, "image_id": 5, "category_id": 7, "iscrowd": 1,
             "segmentation": {"size": list(SIZE), "counts": runs["counts"].decode()}},
        ]  # fmt: skip
    image = {"id": 5, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]}
    content = {"images": [image], "categories": CATEGORIES, "annotations": annotations, **more}
    return write(folder / "annotations" / name, content)


EXPECTED = np.zeros(SIZE, dtype=np.uint8)
EXPECTED[5:20, 5:20] = 1  # cat: the categories count in the order of their numbers
EXPECTED[10:14, 10:14] = 2
EXPECTED[25:, 35:] = 2


def test_instances_become_a_semantic_map(tmp_path):
    instances(tmp_path)
    source = open_data(tmp_path)
    assert source.kind == "coco"
    report = check_data(source, full=True)
    assert not report.problems
    assert report.classes.names == ("background", "cat", "dog")
    (sample,) = source.split("train")
    _, labels = read_sample(sample, report.classes)
    assert np.array_equal(labels, EXPECTED), "small objects lie above large ones"
    assert report.class_pixels["train"] == np.bincount(EXPECTED.ravel()).tolist()


def test_one_file_is_undivided(tmp_path):
    source = open_data(instances(tmp_path, "instances_default.json", "images"))
    assert list(source.splits) == ["all"]
    assert len(source.split("test")) == 1


def test_roboflows_layout(tmp_path):
    for split in ("train", "valid"):
        instances(tmp_path / split, images=".").rename(tmp_path / split / "_annotations.coco.json")
    source = open_data(tmp_path)
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 1, "val": 1}


def panoptic(folder, kinds=((11, 3), (70000, 7)), categories=None):
    (folder / "train2017").mkdir(parents=True)
    Image.new("RGB", SIZE[::-1], "grey").save(folder / "train2017" / "1.jpg")
    numbers = np.zeros(SIZE, dtype=np.int64)
    numbers[5:20, 5:20], numbers[10:14, 10:14] = 11, 70000
    colours = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=-1).astype(np.uint8)
    png = folder / "annotations" / "panoptic_train2017" / "1.png"
    png.parent.mkdir(parents=True)
    Image.fromarray(colours).save(png)
    segments = [{"id": number, "category_id": category} for number, category in kinds]
    write(
        folder / "annotations" / "panoptic_train2017.json",
        {
            "images": [{"id": 5, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]}],
            "categories": categories or [{**entry, "color": [entry["id"], 0, 9]} for entry in CATEGORIES],
            "annotations": [{"image_id": 5, "file_name": "1.png", "segments_info": segments}],
        },
    )
    return folder


def test_panoptic_segments_become_a_semantic_map(tmp_path):
    source = open_data(panoptic(tmp_path))
    report = check_data(source, full=True)
    assert not report.errors
    assert report.classes.names == ("cat", "dog")
    assert report.classes.colors == ((3, 0, 9), (7, 0, 9))
    (sample,) = source.split("train")
    _, labels = read_sample(sample, report.classes)
    expected = np.full(SIZE, 255)
    expected[5:20, 5:20], expected[10:14, 10:14] = 0, 1
    assert np.array_equal(labels, expected)


def test_one_panoptic_category_has_a_background(tmp_path):
    source = open_data(panoptic(tmp_path, ((11, 3), (70000, 3)), [CATEGORIES[1]]))
    classes = check_data(source, full=False).classes
    assert classes.names == ("background", "cat")
    _, labels = read_sample(source.split("train")[0], classes)
    assert np.array_equal(np.unique(labels), [0, 1])


def test_a_segment_that_is_not_listed_is_named(tmp_path):
    source = open_data(panoptic(tmp_path, ((11, 3),)))
    with pytest.raises(InputError, match="holds the segment 70000"):
        check_data(source, full=True).raise_errors()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"segmentation": [[1, 2, 3]]}, "annotation 9 cannot be drawn"),
        ({"segmentation": [[1, 2, 3, float("nan"), 5, 6]]}, "not a list of numbers x, y"),
        ({"segmentation": []}, "boxes at most, and no outlines"),
        ({"segmentation": {"size": [30, 40], "counts": [10**9]}}, "add up to 1000000000"),
        ({"segmentation": [square(1, 1, 5)], "category_id": 99}, "category 99, which is not listed"),
    ],
)
def test_annotations_that_cannot_be_drawn_are_named(tmp_path, annotation, message):
    instances(tmp_path, annotations=[{"id": 9, "image_id": 5, "category_id": 3, **annotation}])
    with pytest.raises(InputError, match=message):
        check_data(open_data(tmp_path), full=True).raise_errors()


@pytest.mark.parametrize("size", [{"width": 40.0, "height": 30.0}, {"width": None, "height": None}, {}])
def test_sizes_may_be_written_with_a_point_or_left_out(tmp_path, size):
    path = instances(tmp_path)
    fields = json.loads(path.read_text())
    expected = check_data(open_data(tmp_path), full=True).class_pixels
    for entry in fields["images"]:
        del entry["width"], entry["height"]
        entry.update(size)
    path.write_text(json.dumps(fields))
    report = check_data(open_data(tmp_path), full=True)
    report.raise_errors()
    assert report.class_pixels == expected


@pytest.mark.parametrize("width", [-40, 40.5, "40", True])
def test_other_sizes_are_refused(tmp_path, width):
    path = instances(tmp_path)
    fields = json.loads(path.read_text())
    fields["images"][0]["width"] = width
    path.write_text(json.dumps(fields))
    with pytest.raises(InputError, match="whole pixels"):
        check_data(open_data(tmp_path), full=True).raise_errors()


def test_a_part_that_is_a_line_is_left_out_with_a_warning(tmp_path):
    parts = [square(1, 1, 5), [20, 20, 21, 21]]
    instances(tmp_path, annotations=[{"id": 9, "image_id": 5, "category_id": 3, "segmentation": parts}])
    report = check_data(open_data(tmp_path), full=True)
    assert not report.errors
    assert report.class_pixels["train"][1] > 0
    (warning,) = [problem for problem in report.warnings if problem.kind == "unseen-annotation"]
    assert "annotation 9 in part" in warning.message


def test_polygons_far_outside_take_no_memory(tmp_path):
    instances(
        tmp_path,
        annotations=[{"id": 9, "image_id": 5, "category_id": 3, "segmentation": [[-1e12, 0, 1e12, 0, 1e12, 1e12]]}],
    )
    source = open_data(tmp_path)
    report = check_data(source, full=True)
    assert report.class_pixels["train"][1] > 0
    assert [problem.kind for problem in report.errors] == ["absent-class"], "it covers the only image"


@pytest.mark.parametrize(
    ("polygon", "said"),
    [
        ([1e308, -1e308, -1e308, 1e308, 1, 1], "absurdly far outside"),
        (
            [value for number in range(2_000_000) for value in (-1 if number % 2 else 15, number % 9)],
            "outline is too long",
        ),
    ],
    ids=["far", "long"],
)
def test_polygons_that_would_end_the_process(tmp_path, polygon, said):
    annotation = {"id": 9, "image_id": 5, "category_id": 3, "segmentation": [polygon]}
    instances(tmp_path, annotations=[annotation])
    report = check_data(open_data(tmp_path), full=True)
    assert said in report.errors[0].message


@pytest.mark.parametrize("name", ["\x1b[2Jcell", "a\nb", "\ud800x"])
def test_names_that_move_the_terminal(tmp_path, name):
    path = instances(tmp_path, categories=[{"id": 3, "name": name}])
    with pytest.raises(InputError, match="which holds control characters"):
        open_data(path)


def test_missing_images_and_other_categories_are_named(tmp_path):
    path = instances(tmp_path)
    (tmp_path / "train2017" / "1.jpg").unlink()
    with pytest.raises(InputError, match=r"lists 1\.jpg, which is not in"):
        open_data(path)
    instances(tmp_path / "two")
    instances(tmp_path / "two", "instances_val2017.json", "val2017", categories=CATEGORIES[:1])
    with pytest.raises(InputError, match=r"do not name the same categories: number \d+ is .* and missing in the other"):
        open_data(tmp_path / "two")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"categories": []}, "names no categories"),
        ({"categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]}, "more than one category called 'x'"),
        ({"categories": [{"id": 1, "name": "background"}], "annotations": []}, "no category but the background"),
        ({"images": [{"id": 1}]}, "'file_name' is missing"),
        ({"annotations": [{"image_id": 1}]}, "'category_id' is missing"),
    ],
)
def test_broken_files_are_named(tmp_path, fields, message):
    path = instances(tmp_path)
    write(path, {**json.loads(path.read_text()), **fields})
    with pytest.raises(InputError, match=message) as caught:
        open_data(tmp_path)
    assert str(path) in str(caught.value)


def test_ids_may_be_text_and_strangers_are_named(tmp_path):
    path = instances(tmp_path)
    content = json.loads(path.read_text())
    content["images"][0]["id"] = "5"
    write(path, content)
    report = check_data(open_data(tmp_path), full=True)
    assert not report.errors
    assert report.class_pixels["train"][2] > 0
    for entry in content["annotations"]:
        entry["image_id"] = 77
    write(path, content)
    report = check_data(open_data(tmp_path), full=False)
    assert any("annotations of image id 77" in problem.message for problem in report.errors)


def test_a_group_without_annotations_is_no_class(tmp_path):
    categories = [{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 3, "name": "cat", "supercategory": "pets"},
                  {"id": 7, "name": "dog", "supercategory": "pets"}]  # fmt: skip
    instances(tmp_path, categories=categories)
    source = open_data(tmp_path)
    assert source.classes.names == ("background", "cat", "dog")
    assert any("'pets'" in note for note in source.notes)


def test_cvats_subsets_in_any_case(tmp_path):
    for subset in ("Train", "Validation", "Test"):
        instances(tmp_path, f"instances_{subset}.json", f"images/{subset}")
    source = open_data(tmp_path)
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 1, "val": 1, "test": 1}


def test_a_file_cut_short_is_named(tmp_path):
    path = instances(tmp_path)
    text = path.read_text()
    path.write_text(text[: len(text) * 2 // 3])
    for data in (tmp_path, path):
        with pytest.raises(InputError, match=r"instances_train2017.json is not valid JSON of COCO"):
            open_data(data)


def test_faults_of_other_splits_do_not_matter(tmp_path):
    instances(tmp_path)
    extra = {"id": 6, "file_name": "gone.jpg", "height": 5, "width": 5}
    path = tmp_path / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    write(path, {**content, "images": [*content["images"], extra]})
    instances(tmp_path, "instances_val2017.json", "val2017")
    source = open_data(tmp_path)
    assert source.problems
    assert not source.only("val").problems
    assert source.only("train").problems


def test_a_classes_json_beside_is_not_used_and_it_is_said(tmp_path):
    instances(tmp_path)
    (tmp_path / "classes.json").write_text('{"classes": ["a", "b"]}')
    assert any("is not used" in note for note in open_data(tmp_path).notes)


def test_nothing_of_another_size_than_the_image_is_drawn(tmp_path, monkeypatch):
    path = instances(tmp_path)
    content = json.loads(path.read_text())
    content["images"][0].update(height=9400, width=9400)
    write(path, content)
    png = panoptic(tmp_path / "two") / "annotations" / "panoptic_train2017" / "1.png"
    png.write_bytes(png_of_size(9400, 9400))  # whose pixels are missing

    def refuse(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(coco_mask, "frPyObjects", refuse)
    monkeypatch.setattr("convlora.data.sources.coco_masks.run_length_mask", refuse)
    for data in (tmp_path, tmp_path / "two"):
        for full in (True, False):
            (problem,) = check_data(open_data(data), full=full).errors
            assert "is 9400x9400 pixels" in problem.message
            assert "but its image" in problem.message
            assert problem.message.endswith("is 40x30. Give both the same size.")


def test_a_mask_of_an_image_that_is_turned_is_told_so(tmp_path):
    path = instances(tmp_path, annotations=[{"image_id": 5, "category_id": 3, "segmentation": [square(1, 1, 5)]}])
    content = json.loads(path.read_text())
    content["images"][0].update(height=SIZE[1], width=SIZE[0])
    write(path, content)
    (problem,) = check_data(open_data(tmp_path), full=True).errors
    assert "One of them is turned" in problem.message
