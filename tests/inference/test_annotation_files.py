"""What `predict --labels` writes, read back pixel by pixel."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from convlora.errors import InputError
from convlora.inference.files.annotation_files import check_annotations
from convlora.inference.files.extras import Extras
from convlora.inference.windows import Tiles
from tests.helpers.label_tools import cvat_maps, label_studio_map
from tests.inference.local_model import noise
from tests.inference.test_extras import balanced, mask_of, segment

NAMES = ("a b.png", "größe 1&2.png", 'it\'s "<x>".png', "turned.jpg")


@pytest.fixture
def images(tmp_path):
    """Images of odd sizes, with difficult names, and one that a camera held upright."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        exif = Image.Exif()
        if name == "turned.jpg":
            exif[0x0112] = 6
        Image.fromarray(noise(13 + 6 * seed, 37, seed=seed)).save(folder / name, exif=exif)
    return [folder / name for name in reversed(NAMES)]


def expected(segmenter, results):
    """Maps of class names by the names of the images, from the masks."""
    names = np.array(segmenter.classes.names, dtype=object)
    if segmenter.classes.background is not None:
        names[segmenter.classes.background] = ""
    return {result["image"].rpartition("/")[2]: names[mask_of(result["mask"])] for result in results}


@pytest.mark.parametrize(("kind", "tiles"), [("binary", None), ("per-pixel", None), ("per-pixel", Tiles())])
def test_cvat_gets_the_masks(tmp_path, images, kind, tiles):
    segmenter = balanced(kind)
    results, of_all = segment(segmenter, images, tmp_path / "out", Extras(labels="cvat"), tiles)
    wanted = expected(segmenter, results)
    known, found = cvat_maps(of_all["cvat"])
    assert list(found) == sorted(NAMES)
    for name in NAMES:
        assert np.array_equal(found[name], wanted[name])
    assert found["turned.jpg"].shape == (37, 31)
    labels = json.loads((tmp_path / "out" / "cvat_labels.json").read_text(encoding="utf-8"))
    of_interest = ["thing"] if kind == "binary" else ["a", "b", "c"]
    assert [label["name"] for label in labels] == known == of_interest
    assert all(label["color"].startswith("#") and label["attributes"] == [] for label in labels)


@pytest.mark.parametrize(("kind", "tiles"), [("binary", None), ("per-pixel", None), ("per-pixel", Tiles())])
def test_label_studio_gets_the_masks(tmp_path, images, kind, tiles):
    segmenter = balanced(kind)
    results, of_all = segment(segmenter, images, tmp_path / "out", Extras(labels="labelstudio"), tiles)
    wanted = expected(segmenter, results)
    tasks = json.loads((tmp_path / "out" / "labelstudio.json").read_text(encoding="utf-8"))
    config = ElementTree.parse(of_all["labelstudio_config"]).getroot()  # noqa: S314 - written by the test
    brushes = config.find("BrushLabels")
    assert [task["data"]["file"] for task in tasks] == sorted(NAMES)
    for task in tasks:
        found, controls = label_studio_map(task)
        assert np.array_equal(found, wanted[task["data"]["file"]])
        assert controls == {(brushes.get("name"), brushes.get("toName"))}
        assert 0 < task["predictions"][0]["score"] <= 1
    assert config.find("Image").get("name") == brushes.get("toName")
    assert config.find("Image").get("value") == "$image"
    of_interest = ["thing"] if kind == "binary" else ["a", "b", "c"]
    assert [label.get("value") for label in brushes] == of_interest
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=my%20photos/a%20b.png"


def test_images_of_label_studio_elsewhere(tmp_path, images):
    extras = Extras(labels="labelstudio", image_url="https://example.org/p?name=")
    segment(balanced(), images, tmp_path / "out", extras)
    tasks = json.loads((tmp_path / "out" / "labelstudio.json").read_text(encoding="utf-8"))
    assert tasks[1]["data"]["image"] == "https://example.org/p?name=gr%C3%B6%C3%9Fe%201%262.png"


def test_all_at_once(tmp_path, images):
    segmenter, extras = balanced("per-pixel"), Extras(objects=True, polygons="coco", labels="cvat")
    results, of_all = segment(segmenter, images, tmp_path / "out", extras)
    assert set(of_all) == {"objects", "coco", "cvat", "cvat_labels"}
    coco, (_, found) = COCO(of_all["coco"]), cvat_maps(of_all["cvat"])
    for image in coco.dataset["images"]:
        for annotation in coco.imgToAnns[image["id"]]:
            name = coco.cats[annotation["category_id"]]["name"]
            assert (found[image["file_name"]][coco.annToMask(annotation) > 0] == name).all()
    assert len(coco.anns) == sum(result["objects"] for result in results)


def test_an_image_without_objects_is_a_task_without_masks(tmp_path):
    segmenter = balanced()
    segmenter.model.convolution.bias.fill_(-1000)
    Image.fromarray(noise(9, 7)).save(tmp_path / "a.png")
    for labels in ("cvat", "labelstudio"):
        segment(segmenter, [tmp_path / "a.png"], tmp_path / "out", Extras(labels=labels))
    assert (cvat_maps(tmp_path / "out" / "cvat.xml")[1]["a.png"] == "").all()
    (task,) = json.loads((tmp_path / "out" / "labelstudio.json").read_text(encoding="utf-8"))
    assert task["predictions"] == [{"model_version": "", "result": []}]


@pytest.mark.parametrize("labels", ["cvat", "labelstudio"])
def test_own_files_are_replaced_and_no_image_is_lost(tmp_path, images, labels):
    extras, output = Extras(labels=labels), tmp_path / "out"
    segment(balanced(), images, output, extras)
    name = "cvat.xml" if labels == "cvat" else "labelstudio.json"
    before = (output / name).read_bytes()
    with pytest.raises(InputError, match="not predicted now, such as a b"):
        segment(balanced(), images[:-1], output, extras)
    assert (output / name).read_bytes() == before
    segment(balanced("per-pixel"), images, output, extras)
    assert (output / name).read_bytes() != before


@pytest.mark.parametrize("what", ["a text", "[]", "link"])
@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ("cvat", "cvat.xml"),
        ("cvat", "cvat_labels.json"),
        ("labelstudio", "labelstudio.json"),
        ("labelstudio", "labelstudio.xml"),
    ],
)
def test_files_of_others_are_not_replaced(tmp_path, labels, name, what):
    if what == "link":
        (tmp_path / "elsewhere").write_text("mine")
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / name).write_text(what)
    if what == "[]" and name.endswith(".json"):
        return  # nothing is in it that could be lost
    with pytest.raises(InputError, match="not made by convlora"):
        check_annotations(tmp_path, balanced().classes, ["a"], labels)


@pytest.mark.parametrize("name", ["\x01", "a\udcff"])
def test_names_that_no_tool_holds(tmp_path, name):
    with pytest.raises(InputError, match="control characters"):
        check_annotations(tmp_path, balanced().classes, [name], "cvat")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("coco", None), "--polygons coco"),
        (("voc", None), "cvat or labelstudio, got 'voc'"),
        (("cvat", "http://x/"), "no effect without --labels labelstudio"),
        ((None, "http://x/"), "no effect without --labels labelstudio"),
    ],
)
def test_refused(options, said):
    with pytest.raises(InputError, match=said):
        Extras.of(False, False, None, None, None, *options)


def test_the_command(convlora, trained_run, tmp_path):
    for name in ("one.png", "two.png"):
        Image.fromarray(noise(40, 50)).save(tmp_path / name)
    good = (tmp_path / "two.png").read_bytes()
    (tmp_path / "two.png").write_bytes(b"none")
    command = ["predict", trained_run, tmp_path / "*.png", "--output", tmp_path / "out", "--labels", "labelstudio"]
    code, out, _ = convlora(*command, "--json")
    assert code == 1
    found = json.loads(out)
    assert (found["labelstudio"], found["labelstudio_config"]) == (
        str(tmp_path / "out" / "labelstudio.json"),
        str(tmp_path / "out" / "labelstudio.xml"),
    )
    (tmp_path / "two.png").write_bytes(good)
    assert convlora(*command, "--resume")[0] == 0
    tasks = json.loads((tmp_path / "out" / "labelstudio.json").read_text())
    assert [task["data"]["file"] for task in tasks] == ["one.png", "two.png"]
    assert {prediction["model_version"] for task in tasks for prediction in task["predictions"]} == {trained_run.name}
    assert tasks[0]["predictions"] == tasks[1]["predictions"]
    code, _, err = convlora(*command[:-1], "coco")
    assert (code, "--polygons coco" in err) == (2, True)
