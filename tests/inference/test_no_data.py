"""Pixels without data get no class, with and without windows."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from convlora.data.reading.images import read_image, read_known
from convlora.data.reading.rows import open_rows
from convlora.inference.files.jobs import run_jobs
from convlora.inference.files.plan import plan
from convlora.inference.windows import Tiles
from tests.inference.local_model import local_segmenter, noise

NO_DATA = 42113
EMPTY = np.arange(83) < 40


def write(path, marked):
    """An image whose left half holds no data, in one of the ways in which TIFF files say so."""
    pixels = noise(70, 83) // 2 + 1
    alpha = np.where(EMPTY, 0, 255).astype(np.uint8) * np.ones((70, 1), np.uint8)
    more = {}
    if marked == "alpha":
        pixels = np.dstack([pixels, alpha])
        more = {"extrasamples": ["unassalpha"]}
    elif marked in ("value", "value of deep colours"):
        pixels = pixels.astype(np.uint16) * 300 if "deep" in marked else pixels
        pixels[:, EMPTY] = 7
        more = {"extratags": [(NO_DATA, "s", 0, "7", True)]}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, photometric="rgb", metadata=None, **more)
        if marked == "mask":
            file.write(alpha != 0, photometric="minisblack", subfiletype=4, metadata=None)


@pytest.mark.parametrize("tiles", [None, Tiles()])
@pytest.mark.parametrize("marked", ["value", "value of deep colours", "alpha", "mask"])
def test_pixels_without_data_have_no_class(tmp_path, marked, tiles):
    segmenter = local_segmenter("per-pixel")
    write(tmp_path / "a.tif", marked)
    known = read_known(tmp_path / "a.tif")
    assert np.array_equal(known, np.broadcast_to(~EMPTY, (70, 83)))
    with open_rows(tmp_path / "a.tif") as rows:
        assert np.array_equal(rows.known(10, 30), known[10:30])
    jobs = plan([tmp_path / "a.tif"], tmp_path / "out", with_overlay=True, tiled=tiles is not None)
    (result,) = run_jobs(segmenter, jobs, tiles=tiles)
    seen = read_image(tmp_path / "a.tif")
    expected = segmenter.predict_maps([seen])[0] if tiles is None else segmenter.predict_tiled(seen)
    with Image.open(tmp_path / "out" / "a.png") as image:
        found = np.asarray(image)
    assert (found[:, EMPTY] == 255).all()
    assert np.array_equal(found[:, ~EMPTY], expected[:, ~EMPTY])
    shares = {name: np.mean(expected[:, ~EMPTY] == index) for index, name in enumerate("abc")}
    assert result["shares"] == shares == json.loads((tmp_path / "out" / "shares.json").read_text())["images"]["a"]
    with Image.open(tmp_path / "out" / "a_overlay.png") as picture:
        assert (np.asarray(picture)[:70, :38] == 0).all()


def test_what_holds_data_everywhere_is_decoded_once(tmp_path, monkeypatch):
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.tif")
    Image.fromarray(np.dstack([noise(20, 30), noise(20, 30)[..., 0] // 128])).save(tmp_path / "b.png")
    tifffile.imwrite(tmp_path / "c.tif", noise(20, 30).astype(np.float16) / 255, photometric="rgb", metadata=None)

    def decoded(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    monkeypatch.setattr("convlora.data.reading.tiff.other.decode", decoded)
    for name in ("a.tif", "b.png", "c.tif"):
        assert read_known(tmp_path / name) is None


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_turned_images(tmp_path, orientation, kind):
    values = np.arange(20 * 30, dtype=kind).reshape(20, 30) % 50
    tags = [(NO_DATA, "s", 0, "7", True), (274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", metadata=None, extratags=tags)
    tifffile.imwrite(
        tmp_path / "b.tif", np.where(values == 7, 0, 49).astype(np.uint8), photometric="minisblack", metadata=None,
        extratags=tags[1:],
    )  # fmt: skip
    assert np.array_equal(read_known(tmp_path / "a.tif"), np.asarray(read_image(tmp_path / "b.tif"))[..., 0] > 0)
