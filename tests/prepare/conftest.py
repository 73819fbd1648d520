"""Archives of the same shape as the published ones, and a server that has them."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.helpers.web import serving


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as site:
        yield site


def picture(seed="0", form="JPEG", size=(12, 16)):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(list(str(seed).encode())).integers(0, 256, (*size, 3), dtype=np.uint8)).save(
        stream, form
    )
    return stream.getvalue()


def mask_file(values, form="PNG"):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(stream, form)
    return stream.getvalue()


def half(foreground=255, size=(12, 16)):
    values = np.zeros(size, dtype=np.uint8)
    values[:, size[1] // 2 :] = foreground
    return values


def zipped(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tables(name="leaf_disease_segmentation", tests=("",), foreground=255, mask_form="PNG"):
    """An archive that lists its pairs, as the authors of Conv-LoRA publish them."""
    files, ending = {}, "png" if mask_form == "PNG" else "jpg"
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for part in tests if split == "test" else ("",):
            rows = [",image,label"]
            for index in range(count):
                folder = f"{split}{part}"
                rows.append(f"{index},{folder}/images/{index}.jpg,{folder}/gt/{index}.{ending}")
                files[f"{name}/{folder}/images/{index}.jpg"] = picture(f"{folder}{index}")
                files[f"{name}/{folder}/gt/{index}.{ending}"] = mask_file(half(foreground), mask_form)
            files[f"{name}/{split}{part}.csv"] = "\n".join(rows).encode()
    return files


def isic():
    """The six archives of ISIC 2017, by name."""
    archives = {}
    for title, split, count in (
        ("Training", "Training", 3),
        ("Validation", "Validation", 1),
        ("Test_v2", "Test_v2", 2),
    ):
        data, truth = f"ISIC-2017_{title}_Data", f"ISIC-2017_{split}_Part1_GroundTruth"
        images = {f"{data}/ISIC_{index:07d}.jpg": picture(f"{title}{index}") for index in range(count)}
        extra = {
            f"{data}/ISIC_{index:07d}_superpixels.png": picture(f"{title}{index}", "PNG") for index in range(count)
        }
        archives[f"{data}.zip"] = zipped(images | extra)
        masks = {f"{truth}/ISIC_{index:07d}_segmentation.png": mask_file(half()) for index in range(count)}
        archives[f"{truth}.zip"] = zipped(masks)
    return archives
