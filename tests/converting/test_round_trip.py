"""What `predict` writes for annotation tools comes back through `data convert` as the same masks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlora.api.convert_data import convert_data
from convlora.inference.files.extras import Extras
from tests.inference.local_model import noise
from tests.inference.test_extras import balanced, mask_of, segment


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        exif = Image.Exif()
        if number == 3:
            exif[0x0112] = 6
        Image.fromarray(noise(13 + 6 * number, 37, seed=number)).save(folder / f"größe {number}.jpg", exif=exif)
    return sorted(folder.iterdir())


def named(folder):
    """Maps of class names of a data folder, by the names of the images; the background has none."""
    classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))["classes"]
    names = np.array(["" if name.lower() == "background" else name for name in classes], dtype=object)
    return {path.stem: names[np.asarray(Image.open(path))] for path in (folder / "masks").iterdir()}


def as_accepted(tasks):
    """Tasks of Label Studio, whose predictions were accepted as annotations and exported."""
    for number, task in enumerate(tasks, 1):
        (prediction,) = task.pop("predictions")
        task |= {"id": number, "annotations": [{"id": number, "result": prediction["result"], "was_cancelled": False}]}
    return tasks


@pytest.mark.parametrize("kind", ["binary", "per-pixel"])
@pytest.mark.parametrize("tool", ["cvat", "labelstudio", "coco"])
def test_masks_come_back(tmp_path, images, kind, tool):
    segmenter = balanced(kind)
    wanted = Extras(polygons="coco") if tool == "coco" else Extras(labels=tool)
    results, of_all = segment(segmenter, images, tmp_path / "out", wanted)
    export = tmp_path / "export"
    export.mkdir()
    for image in images:
        shutil.copy(image, export)
    if tool == "labelstudio":
        tasks = json.loads((tmp_path / "out" / "labelstudio.json").read_text(encoding="utf-8"))
        (export / "project.json").write_text(json.dumps(as_accepted(tasks)))
    else:
        shutil.copy(of_all[tool], export / {"cvat": "annotations.xml", "coco": "coco.json"}[tool])
    made = convert_data(export, tmp_path / "data", split="none")
    assert made["format"] == tool
    names = np.array(segmenter.classes.names, dtype=object)
    if segmenter.classes.background is not None:
        names[segmenter.classes.background] = ""
    found = named(tmp_path / "data")
    assert len(found) == len(results) == 4
    for result in results:
        stem = Path(result["image"]).stem.replace(" ", "_")
        assert np.array_equal(found[stem], names[mask_of(result["mask"])])
