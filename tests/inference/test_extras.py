"""What `predict` writes beside masks: probabilities, objects and their outlines."""

import csv
import json
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage

from convlora.data.reading.rows import reference_of
from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.inference.files.extras import Extras
from convlora.inference.files.jobs import run_jobs
from convlora.inference.files.of_all import check_files_of_all, write_files_of_all
from convlora.inference.files.plan import plan
from convlora.inference.files.probability_maps import open_probabilities
from convlora.inference.windows import Tiles
from convlora.measuring.pixel_size import PixelSize
from tests.helpers.forked import Forked
from tests.helpers.wait_at import wait_at
from tests.inference.local_model import local_segmenter, noise
from tests.inference.test_no_data import EMPTY, write
from tests.inference.test_predict_tiled import write_geo_tiff

SQUARE = np.ones((3, 3), int)  # pixels that touch at a corner are neighbours
MODES = pytest.mark.parametrize("tiles", [None, Tiles()], ids=["whole", "tiles"])


def balanced(kind="binary"):
    """A model that finds objects."""
    segmenter = local_segmenter(kind)
    segmenter.model.requires_grad_(False)
    segmenter.model.convolution.bias.zero_()
    return segmenter


def segment(segmenter, images, output, extras, tiles=None):
    jobs = plan(images, output, False, tiled=tiles is not None, extras=extras)
    results = list(run_jobs(segmenter, jobs, tiles=tiles, extras=extras))
    good = [result["image"] for result in results if "error" not in result]
    pieces = [job.piece for job in jobs if job.piece is not None and str(job.image) in good]
    names = [job.mask.stem for job in jobs]
    return results, write_files_of_all(output, segmenter.classes, names, pieces, extras)


def table(output):
    with (output / "objects.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mask_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def expected_objects(mask, of_interest):
    """(class, pixels, row, column) of each object, by scipy and one class at a time."""
    found = []
    for kind in of_interest:
        labels, number = ndimage.label(mask == kind, SQUARE)
        index = range(1, number + 1)
        centres = ndimage.center_of_mass(mask == kind, labels, index)
        sizes = ndimage.sum_labels(mask == kind, labels, index)
        found += [(kind, int(size), *centre) for size, centre in zip(sizes, centres)]
    return sorted(found)


@MODES
@pytest.mark.parametrize("kind", ["binary", "per-pixel", "mask-classification"])
def test_the_table_is_that_of_the_mask(tmp_path, kind, tiles):
    segmenter = balanced(kind)
    Image.fromarray(noise(70, 83)).save(tmp_path / "a.png")
    Image.fromarray(noise(20, 30, seed=1)).save(tmp_path / "b.png")
    images = [tmp_path / "b.png", tmp_path / "a.png"]
    results, of_all = segment(segmenter, images, tmp_path / "out", Extras(objects=True), tiles)
    assert of_all == {"objects": str(tmp_path / "out" / "objects.csv")}
    rows = table(tmp_path / "out")
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    of_interest = [1] if kind == "binary" else [0, 1, 2]
    assert len(rows) > (5 if kind != "mask-classification" else 1)
    for result in results:
        name = Path(result["image"]).name
        mask = mask_of(result["mask"])
        own = [row for row in rows if row["image"] == name]
        found = sorted((int(r["class"]), int(r["area_px"]), float(r["row"]), float(r["column"])) for r in own)
        wanted = expected_objects(mask, of_interest)
        assert np.array(found) == pytest.approx(np.array(wanted), abs=6e-4)
        assert len(found) == result["objects"]
        assert [int(row["object"]) for row in own] == list(range(1, len(own) + 1))
        assert {row["class_name"] for row in own} <= set(segmenter.classes.names)
        if tiles is None:
            probabilities = segmenter.predict(result["image"]).probabilities
            for row in own:
                part = (slice(int(row["top"]), int(row["bottom"])), slice(int(row["left"]), int(row["right"])))
                labels, _ = ndimage.label(mask[part] == int(row["class"]), SQUARE)
                sizes = np.bincount(labels.ravel())
                inside = labels == np.flatnonzero(sizes == int(row["area_px"]))[-1]
                if (sizes[1:] == int(row["area_px"])).sum() == 1:
                    mean = probabilities[int(row["class"])][part][inside].mean()
                    assert float(row["mean_probability"]) == pytest.approx(mean, abs=1e-5)


@MODES
@pytest.mark.parametrize("kind", ["binary", "mask-classification"])
def test_probabilities(tmp_path, kind, tiles):
    segmenter = balanced(kind)
    Image.fromarray(noise(150, 30) if tiles is None else noise(30, 25)).save(tmp_path / "a.png")
    ((result,), _) = segment(segmenter, [tmp_path / "a.png"], tmp_path / "out", Extras(probabilities=True), tiles)
    expected = segmenter.predict(tmp_path / "a.png").probabilities
    with tifffile.TiffFile(result["probabilities"]) as file:
        said = json.loads(file.pages[0].description)
        pages = np.stack([page.asarray() for page in file.pages])
        assert file.pages[0].software == "convlora"
    assert said["probability"] == "value / 65534"
    assert said["classes"] == (["thing"] if kind == "binary" else ["a", "b", "c"])
    assert pages.dtype == np.uint16
    wanted = expected[1:] if kind == "binary" else expected
    assert pages / 65534 == pytest.approx(wanted, abs=2e-5)
    segment(segmenter, [tmp_path / "a.png"], tmp_path / "out", Extras(probabilities=True), tiles)  # replaces its own


@MODES
def test_a_geo_tiff_has_probabilities_in_its_place(tmp_path, tiles):
    rasterio = pytest.importorskip("rasterio")
    segmenter = balanced("per-pixel")
    profile = write_geo_tiff(tmp_path / "a.tif", noise(300, 40))
    segment(segmenter, [tmp_path / "a.tif"], tmp_path / "out", Extras(probabilities=True), tiles)
    with rasterio.open(tmp_path / "out" / "a_probabilities.tif") as file:
        assert file.transform == profile["transform"]
        assert file.crs == rasterio.CRS.from_string(profile["crs"])
        assert file.descriptions == ("a", "b", "c")
        assert file.nodata == 65535
        assert file.scales == pytest.approx([1 / 65534] * 3)
        values = file.read() * np.array(file.scales)[:, None, None]
    assert values.sum(axis=0) == pytest.approx(1, abs=1e-4)
    if tiles is not None:
        with rasterio.open(tmp_path / "out" / "a.tif") as mask:
            own = np.take_along_axis(values, mask.read(1)[None].astype(int), axis=0)[0]
        assert own == pytest.approx(values.max(axis=0), abs=2e-5)


@MODES
def test_pixels_without_data_are_of_no_object(tmp_path, tiles):
    write(tmp_path / "a.tif", "alpha")
    segmenter = balanced("per-pixel")
    extras = Extras(probabilities=True, objects=True, polygons="coco")
    ((result,), _) = segment(segmenter, [tmp_path / "a.tif"], tmp_path / "out", extras, tiles)
    mask = mask_of(result["mask"])
    assert (mask[:, EMPTY] == 255).all()
    found = sorted((int(row["class"]), int(row["area_px"])) for row in table(tmp_path / "out"))
    assert found == [one[:2] for one in expected_objects(mask, [0, 1, 2])]
    values = tifffile.imread(result["probabilities"])
    assert (values[:, :, EMPTY] == 65535).all()
    assert (values[:, :, ~EMPTY] < 65535).all()


@MODES
@pytest.mark.parametrize("kind", ["binary", "per-pixel"])
def test_coco_gives_the_masks(tmp_path, kind, tiles, capsys):
    segmenter = balanced(kind)
    for name, size in (("a", (70, 83)), ("b", (33, 40))):
        Image.fromarray(noise(*size)).save(tmp_path / f"{name}.png")
    images = [tmp_path / "a.png", tmp_path / "b.png"]
    results, of_all = segment(segmenter, images, tmp_path / "out", Extras(polygons="coco"), tiles)
    coco = COCO(of_all["coco"])
    shift = 0 if kind == "binary" else 1
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert names == ({1: "thing"} if kind == "binary" else {1: "a", 2: "b", 3: "c"})
    assert [one["file_name"] for one in coco.loadImgs([1, 2])] == ["a.png", "b.png"]
    for number, result in enumerate(results, start=1):
        mask, drawn, counted = mask_of(result["mask"]), np.zeros(result["size"], int), np.zeros(result["size"], int)
        for one in coco.loadAnns(coco.getAnnIds(imgIds=number)):
            inside = coco.annToMask(one).astype(bool)
            drawn[inside] = one["category_id"] - shift
            counted += inside
            rows, columns = np.nonzero(inside)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert (one["area"], one["bbox"]) == (inside.sum(), box)
            assert ndimage.label(inside, SQUARE)[1] == 1
        assert np.array_equal(drawn, mask)
        assert counted.max() == 1
    assert sum(result["objects"] for result in results) > 5


def test_coco_is_taken_for_training(tmp_path):
    """What comes out can be corrected and go in again."""
    from convlora.data.sources.opening import open_data

    (tmp_path / "train").mkdir()
    Image.fromarray(noise(70, 83)).save(tmp_path / "train" / "a.png")
    segmenter = balanced("binary")
    ((result,), of_all) = segment(segmenter, [tmp_path / "train" / "a.png"], tmp_path / "out", Extras(polygons="coco"))
    Path(of_all["coco"]).rename(tmp_path / "train" / "_annotations.coco.json")
    (sample,) = open_data(tmp_path).split("train")
    assert np.array_equal(np.asarray(sample.mask.load()) > 0, mask_of(result["mask"]) > 0)


@MODES
def test_on_earth(tmp_path, tiles):
    """Half-metre pixels in a zone: areas, places, and outlines that give the mask."""
    rasterio = pytest.importorskip("rasterio")
    profile = write_geo_tiff(tmp_path / "a.tif", noise(70, 83))
    extras = Extras(objects=True, polygons="geojson")
    ((result,), _) = segment(balanced("binary"), [tmp_path / "a.tif"], tmp_path / "out", extras, tiles)
    rows = table(tmp_path / "out")
    for row in rows:
        assert (row["unit"], row["crs"]) == ("m", "EPSG:32633")
        assert float(row["area"]) == pytest.approx(int(row["area_px"]) / 4)
        assert float(row["perimeter"]) == pytest.approx(float(row["perimeter_px"]) / 2, abs=1e-3)
        assert float(row["x"]) == pytest.approx(400000 + (float(row["column"]) + 0.5) / 2, abs=1e-3)
        assert float(row["y"]) == pytest.approx(5200000 - (float(row["row"]) + 0.5) / 2, abs=1e-3)
    found = json.loads(Path(result["polygons"]).read_text())
    assert found["image"] == "a.tif"
    assert len(found["features"]) == len(rows) > 3
    shapes = [rasterio.warp.transform_geom("EPSG:4326", profile["crs"], one["geometry"]) for one in found["features"]]
    drawn = rasterio.features.rasterize(shapes, (70, 83), transform=profile["transform"])
    assert np.array_equal(drawn, mask_of(result["mask"]))
    segment(balanced("binary"), [tmp_path / "a.tif"], tmp_path / "out", extras, tiles)  # replaces its own


def test_units_of_a_microscope(tmp_path):
    Image.fromarray(noise(30, 40)).save(tmp_path / "a.png")
    extras = Extras(objects=True, pixel_size=PixelSize(0.5, 0.5, "um"))
    segment(balanced(), [tmp_path / "a.png"], tmp_path / "out", extras)
    for row in table(tmp_path / "out"):
        assert (row["unit"], row["x"], row["crs"]) == ("um", "", "")
        assert float(row["area"]) == pytest.approx(int(row["area_px"]) / 4)
        assert float(row["perimeter"]) == pytest.approx(float(row["perimeter_px"]) / 2, abs=1e-3)


def test_other_images_of_a_folder_stay(tmp_path):
    """Jobs of a cluster may write into one folder, and images may be predicted again."""
    segmenter, extras = balanced(), Extras(objects=True, polygons="coco")
    images = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for seed, image in enumerate(images):
        Image.fromarray(noise(20 + seed, 30, seed)).save(image)
    segment(segmenter, images, tmp_path / "at once", extras)
    for some in (images[2:], images[:1], images[1:2], images[:2]):
        segment(segmenter, some, tmp_path / "out", extras)
    for name in ("objects.csv", "coco.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()


@pytest.mark.parametrize("name", ["objects.csv", "coco.json", "a.geojson", "a_probabilities.tif"])
@pytest.mark.parametrize("what", ["file", "link"])
def test_files_of_others_are_not_replaced(tmp_path, name, what):
    if name == "a.geojson":
        pytest.importorskip("rasterio")
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "dear").write_text("image,object\n")
    if what == "link":
        (tmp_path / "out" / name).symlink_to(tmp_path / "dear")
    else:
        (tmp_path / "out" / name).write_text("image,object\n")
    polygons = "geojson" if name == "a.geojson" else "coco"
    extras = Extras(probabilities=True, objects=True, polygons=polygons)

    def checked():
        plan([tmp_path / "a.png"], tmp_path / "out", False, extras=extras)
        check_files_of_all(tmp_path / "out", balanced().classes, ["a"], extras)

    with pytest.raises(InputError, match=f"{name} exists and was not made by convlora"):
        checked()
    assert (tmp_path / "dear").read_text() == "image,object\n"


def test_objects_of_other_classes_are_not_lost(tmp_path):
    for name in "ab":
        Image.fromarray(noise(20, 30)).save(tmp_path / f"{name}.png")
    extras = Extras(polygons="coco")
    segment(balanced(), [tmp_path / "a.png"], tmp_path / "out", extras)
    other = balanced("per-pixel").classes
    with pytest.raises(InputError, match="objects of other classes"):
        check_files_of_all(tmp_path / "out", other, ["b"], extras)
    check_files_of_all(tmp_path / "out", other, ["a", "b"], extras)


def test_names_that_spreadsheets_would_compute(tmp_path):
    Image.fromarray(noise(20, 30)).save(tmp_path / "=1+1.png")
    segment(balanced(), [tmp_path / "=1+1.png"], tmp_path / "out", Extras(objects=True))
    assert {row["image"] for row in table(tmp_path / "out")} == {"'=1+1.png"}


def test_rows_of_any_number_make_the_same_pages(tmp_path):
    values = np.random.default_rng(0).integers(0, 65535, (2, 150, 11)).astype(np.uint16)
    for name, step in (("a.tif", 150), ("b.tif", 7)):
        with open_probabilities(tmp_path / name, (150, 11), ["x", "y"], None) as file:
            for top in range(0, 150, step):
                file.write(values[:, top : top + step])
        assert np.array_equal(tifffile.imread(tmp_path / name), values)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


# The command


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = write_task("cells", tmp_path_factory.mktemp("photos") / "data", num_train=5, num_val=1, num_test=1, seed=9)
    return folder / "train" / "images"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threshold", "1.5"], "--threshold is 1.5, but must be between 0 and 1"),
        (["--threshold", "0"], "--threshold is 0, but must be between 0 and 1"),
        (["--threshold", "nan"], "--threshold is nan, but must be between 0 and 1"),
        (["--polygons", "svg"], "--polygons must be geojson or coco"),
        (["--pixel-size", "0.5um"], "--pixel-size has no effect without --objects or --polygons geojson"),
        (["--pixel-size", "0.5um", "--polygons", "coco"], "--pixel-size has no effect"),
        (["--pixel-size", "5", "--objects"], "--pixel-size must be a length with its unit"),
    ],
)
def test_refused(convlora, trained_run, photos, tmp_path, options, said):
    code, _, err = convlora("predict", trained_run, photos, "--output", tmp_path / "out", *options)
    assert code == 2
    assert said in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_two_sizes_of_a_pixel_are_refused(convlora, trained_run, tmp_path):
    pytest.importorskip("rasterio")
    write_geo_tiff(tmp_path / "a.tif", noise(40, 40))
    options = ["--objects", "--pixel-size", "1m", "--output", tmp_path / "out"]
    code, _, err = convlora("predict", trained_run, tmp_path / "a.tif", *options)
    assert code == 2
    assert "a.tif says itself how large its pixels are" in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_outlines_need_a_package(monkeypatch):
    monkeypatch.setattr("convlora.inference.files.extras.has_rasterio", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'convlora\[geo\]'"):
        Extras.of(False, False, "geojson", None)
    Extras.of(False, False, "coco", None)


def test_points_on_the_ground_are_spoken_of(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    points = [rasterio.control.GroundControlPoint(row, col, col, -row) for row, col in ((0, 0), (0, 69), (69, 0))]
    write_geo_tiff(tmp_path / "a.tif", noise(70, 83), transform=None, gcps=points)
    assert reference_of(tmp_path / "a.tif").points
    assert "ground control points" in Extras(objects=True).check_sizes([tmp_path / "a.tif"])
    assert Extras(probabilities=True).check_sizes([tmp_path / "a.tif"]) is None
    segment(balanced(), [tmp_path / "a.tif"], tmp_path / "out", Extras(objects=True), Tiles())
    assert {row["unit"] for row in table(tmp_path / "out")} == {""}


@pytest.mark.parametrize("tile", [[], ["--tile"]])
def test_the_threshold(convlora, trained_run, photos, tmp_path, tile):
    """Its masks are those of the probabilities; one half changes nothing."""
    image, arguments = sorted(photos.iterdir())[0], ["--device", "cpu", *tile]
    for name, options in (
        ("plain", ["--probabilities"]),
        ("half", ["--threshold", 0.5]),
        ("low", ["--threshold", 0.2]),
        ("high", ["--threshold", 0.8, "--objects"]),
    ):
        assert convlora("predict", trained_run, image, "--output", tmp_path / name, *arguments, *options)[0] == 0
    masks = {name: mask_of(tmp_path / name / f"{image.stem}.png") for name in ("plain", "half", "low", "high")}
    assert np.array_equal(masks["plain"], masks["half"])
    probability = tifffile.imread(tmp_path / "plain" / f"{image.stem}_probabilities.tif") / 65534
    for name, threshold in (("plain", 0.5), ("low", 0.2), ("high", 0.8)):
        clear = np.abs(probability - threshold) > 1e-4
        assert np.array_equal(masks[name][clear] == 1, (probability > threshold)[clear])
    assert masks["low"].sum() > masks["plain"].sum() > masks["high"].sum()
    assert all(float(row["mean_probability"]) > 0.8 for row in table(tmp_path / "high"))


def test_a_threshold_for_several_classes_is_refused():
    segmenter = balanced("per-pixel")
    with pytest.raises(InputError, match="--threshold has no effect with 3 classes"):
        type(segmenter)(segmenter.model, segmenter.classes, (32, 32), threshold=0.4)


def test_a_prediction_in_memory_says_the_same(tmp_path):
    segmenter = balanced()
    write(tmp_path / "a.tif", "alpha")
    segment(segmenter, [tmp_path / "a.tif"], tmp_path / "out", Extras(objects=True))
    found = segmenter.predict(tmp_path / "a.tif").objects(pixel_size="2um")
    rows = table(tmp_path / "out")
    assert [one["area_px"] for one in found] == [int(row["area_px"]) for row in rows]
    assert [one["mean_probability"] for one in found] == pytest.approx(
        [float(row["mean_probability"]) for row in rows], abs=1e-5
    )
    assert all(one["area"] == 4 * one["area_px"] for one in found)
    segmenter.threshold = 0.6
    again = segmenter.predict(tmp_path / "a.tif")
    assert np.array_equal(again.semantic_map, segmenter.predict_maps([tmp_path / "a.tif"])[0])
    assert np.array_equal(again.semantic_map == 1, again.probabilities[1] > 0.6)


OPTIONS = ["--device", "cpu", "--objects", "--polygons", "coco", "--probabilities", "--pixel-size", "2um"]


def test_a_killed_prediction_ends_with_whole_tables(convlora, trained_run, photos, tmp_path):
    """No table is there before all is done; in the end it is that of a prediction that was not killed."""
    assert convlora("predict", trained_run, photos, "--output", tmp_path / "whole", *OPTIONS)[0] == 0
    output = tmp_path / "out"
    arguments = ["predict", str(trained_run), str(photos), "--output", str(output), *OPTIONS]
    process = Forked(*arguments, prepare=partial(wait_at, "train_003"))
    for _ in range(1200):
        done = output / ".done-0.jsonl"
        if done.is_file() and sum(map(bool, done.read_text().splitlines())) == 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (output / "objects.csv").exists()
    assert not (output / "coco.json").exists()
    untouched = (output / "train_001_probabilities.tif").stat().st_mtime_ns
    next(output.glob(".objects-*.jsonl"))
    code, out, err = convlora(*arguments, "--resume", "--json")
    assert code == 0
    assert "3 of 5 images were done before." in err
    printed = json.loads(out)
    assert all({"objects", "probabilities"} <= one.keys() for one in printed["images"])
    assert printed["objects"] == str(output / "objects.csv")
    assert (output / "train_001_probabilities.tif").stat().st_mtime_ns == untouched
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in output.iterdir()) == names
    assert [name for name in names if (output / name).read_bytes() != (tmp_path / "whole" / name).read_bytes()] == []
    # Another size of pixels is not taken for done.
    assert "done before" not in convlora(*arguments[:-1], "3um", "--resume")[2]


def test_an_image_that_failed_is_added_later(convlora, trained_run, photos, tmp_path):
    mixed = tmp_path / "photos"
    mixed.mkdir()
    for path in sorted(photos.iterdir())[:2]:
        (mixed / path.name).write_bytes(path.read_bytes())
    (mixed / "bad.png").write_bytes(b"")
    arguments = ["predict", trained_run, mixed, "--output", tmp_path / "out", "--resume", *OPTIONS]
    assert convlora(*arguments)[0] == 1
    assert {row["image"] for row in table(tmp_path / "out")} == {"train_000.png", "train_001.png"}
    (mixed / "bad.png").write_bytes((mixed / "train_000.png").read_bytes())
    code, _, err = convlora(*arguments)
    assert code == 0
    assert "2 of 3 images were done before." in err
    assert {row["image"] for row in table(tmp_path / "out")} == {"bad.png", "train_000.png", "train_001.png"}
    assert not list((tmp_path / "out").glob(".*"))
