"""Files in, files out, in windows."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image, TiffImagePlugin, TiffTags

from convlora.data.reading import reduced
from convlora.errors import InputError
from convlora.inference.files.jobs import run_jobs
from convlora.inference.files.left_out import parts_left_out
from convlora.inference.files.plan import coordinates_lost, plan
from convlora.inference.windows import Tiles
from tests.helpers.messages import says
from tests.inference.local_model import local_segmenter, noise


def segment(segmenter, images, output, overlay=False, **more):
    return list(run_jobs(segmenter, plan(images, output, overlay, tiled=True), tiles=Tiles(), **more))


def write_geo_tiff(path, pixels, **more):
    rasterio = pytest.importorskip("rasterio")
    profile = {
        "crs": "EPSG:32633",
        "transform": rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5200000),
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
    }
    height, width, count = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=pixels.dtype, **(profile | more)
    ) as new:
        new.write(np.moveaxis(pixels, -1, 0))
    return profile


def test_results_are_those_of_the_segmenter(tmp_path):
    segmenter, pixels = local_segmenter("mask-classification"), noise(70, 83)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (result,) = segment(segmenter, [tmp_path / "a.png"], tmp_path / "out", overlay=True)
    expected = segmenter.predict_tiled(pixels)
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert np.array_equal(np.asarray(image), expected)
    assert result["size"] == [70, 83]
    assert result["shares"] == {name: np.mean(expected == index) for index, name in enumerate("abc")}
    assert json.loads((tmp_path / "out" / "shares.json").read_text())["images"] == {"a": result["shares"]}
    assert result.keys() == {"image", "mask", "overlay", "size", "shares"}


def test_an_image_too_wide_for_the_memory_does_not_stop_the_others(tmp_path, monkeypatch):
    """Memory that is promised by the system but not there would end the process."""
    segmenter = local_segmenter()
    for name, width in (("a", 4000), ("b", 40)):
        Image.fromarray(noise(70, width)).save(tmp_path / f"{name}.png")
    free = psutil.virtual_memory()._replace(available=500_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    wide, small = segment(segmenter, [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")
    says(wide["error"], tmp_path / "a.png", "too wide", "memory", "smaller --tile-size")
    assert "error" not in small
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.png", "shares.json"]


def test_an_image_that_fits_gives_the_same_files_as_without_windows(tmp_path):
    segmenter = local_segmenter("mask-classification")
    Image.fromarray(noise(30, 25)).save(tmp_path / "a.png")
    (tiled,) = segment(segmenter, [tmp_path / "a.png"], tmp_path / "tiled", overlay=True)
    (plain,) = run_jobs(segmenter, plan([tmp_path / "a.png"], tmp_path / "plain", with_overlay=True))
    for name in ("a.png", "a_overlay.png"):
        with Image.open(tmp_path / "tiled" / name) as one, Image.open(tmp_path / "plain" / name) as other:
            assert one.mode == other.mode
            assert np.array_equal(np.asarray(one), np.asarray(other))
            assert one.getpalette() == other.getpalette()
    assert tiled["shares"] == plain["shares"]


def test_a_geo_tiff_gives_a_geo_tiff_in_the_same_place(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    segmenter, pixels = local_segmenter("per-pixel"), noise(70, 83)
    profile = write_geo_tiff(tmp_path / "a.tif", pixels)
    (result,) = segment(segmenter, [tmp_path / "a.tif"], tmp_path / "out")
    assert result["mask"] == str(tmp_path / "out" / "a.tif")
    with rasterio.open(tmp_path / "out" / "a.tif") as mask:
        assert mask.crs == rasterio.CRS.from_string(profile["crs"])
        assert mask.transform == profile["transform"]
        assert np.array_equal(mask.read(1), segmenter.predict_tiled(pixels))
        assert (mask.read_masks(1) == 255).all()
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["a.tif", "shares.json"]
    segment(segmenter, [tmp_path / "a.tif"], tmp_path / "out")  # replaces its own result


def test_ground_control_points_are_kept(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    points = [
        rasterio.control.GroundControlPoint(row, column, row + 5.0, column - 5.0)
        for row in (0, 60)
        for column in (0, 60)
    ]
    write_geo_tiff(tmp_path / "a.tif", noise(70, 83), gcps=points, transform=None)
    segment(local_segmenter(), [tmp_path / "a.tif"], tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "a.tif") as mask:
        found, crs = mask.gcps
        assert [(one.row, one.col, one.x, one.y) for one in found] == [(p.row, p.col, p.x, p.y) for p in points]
        assert crs == rasterio.CRS.from_string("EPSG:32633")


@pytest.mark.parametrize("number", [1, 4])
def test_points_without_a_coordinate_system_are_kept_too(tmp_path, number):
    rasterio = pytest.importorskip("rasterio")
    ties = [(0.0, 0.0, 0.0, 10.0, 20.0, 0.0), (80.0, 0.0, 0.0, 90.0, 20.0, 0.0)]
    ties += [(0.0, 60.0, 0.0, 10.0, -40.0, 0.0), (80.0, 60.0, 0.0, 91.0, -40.0, 0.0)]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[33922] = tuple(value for tie in ties[:number] for value in tie)  # ModelTiepoint, and nothing else
    tags.tagtype[33922] = TiffTags.DOUBLE
    Image.fromarray(noise(70, 83)).save(tmp_path / "a.tif", tiffinfo=tags)
    Image.fromarray(noise(70, 83)).save(tmp_path / "b.png")
    results = segment(local_segmenter(), [tmp_path / "a.tif", tmp_path / "b.png"], tmp_path / "out")
    assert [Path(result["mask"]).name for result in results] == ["a.tif", "b.png"]
    from convlora.data.reading.gdal import gdal

    with gdal(), rasterio.open(tmp_path / "out" / "a.tif") as mask:
        found, crs = mask.gcps
        assert [(one.col, one.row, 0.0, one.x, one.y, one.z) for one in found] == ties[:number]
        assert crs is None


@pytest.mark.parametrize("marked", ["value", "alpha", "mask band"])
def test_pixels_without_data_have_no_class(tmp_path, marked):
    rasterio = pytest.importorskip("rasterio")
    segmenter, pixels = local_segmenter("per-pixel"), noise(70, 83) // 2 + 1
    pixels[:, :40] = 0
    alpha = np.where(np.arange(83) < 40, 0, 255).astype(np.uint8) * np.ones((70, 1), np.uint8)
    if marked == "alpha":
        write_geo_tiff(tmp_path / "a.tif", np.dstack([pixels, alpha]), photometric="rgb", alpha="yes")
    else:
        write_geo_tiff(tmp_path / "a.tif", pixels, **({"nodata": 0} if marked == "value" else {}))
    if marked == "mask band":
        with rasterio.open(tmp_path / "a.tif", "r+") as image:
            image.write_mask(alpha)
    (result,) = segment(segmenter, [tmp_path / "a.tif"], tmp_path / "out", overlay=True)
    expected = segmenter.predict_tiled(pixels)
    with rasterio.open(tmp_path / "out" / "a.tif") as mask:
        assert mask.nodata == 255
        values = mask.read(1)
    assert (values[:, :40] == 255).all()
    assert np.array_equal(values[:, 40:], expected[:, 40:])
    assert result["shares"] == {name: np.mean(expected[:, 40:] == index) for index, name in enumerate("abc")}
    with Image.open(tmp_path / "out" / "a_overlay.png") as picture:
        assert (np.asarray(picture)[:70, :38] == 0).all()


def test_a_tiff_that_lies_nowhere_gives_a_png(tmp_path):
    Image.fromarray(noise(40, 40)).save(tmp_path / "a.tif")
    (result,) = segment(local_segmenter(), [tmp_path / "a.tif"], tmp_path / "out")
    assert result["mask"] == str(tmp_path / "out" / "a.png")


@pytest.mark.parametrize("where", ["transform", "points"])
def test_coordinates_that_get_lost_are_spoken_of(tmp_path, monkeypatch, where):
    rasterio = pytest.importorskip("rasterio")
    points = [rasterio.control.GroundControlPoint(row, col, col, -row) for row, col in ((0, 0), (0, 69), (69, 0))]
    place = {"transform": None, "gcps": points} if where == "points" else {}
    write_geo_tiff(tmp_path / "a.tif", noise(70, 83), **place)
    Image.fromarray(noise(70, 83)).save(tmp_path / "nowhere.tif")
    images, output = [tmp_path / "a.tif", tmp_path / "nowhere.tif"], tmp_path / "out"
    lost = (f"{tmp_path}/a.tif", "coordinates", "PNG")
    says(coordinates_lost(plan(images, output, False), tiled=False), *lost, "--tile")
    assert coordinates_lost(plan(images, output, False, tiled=True), tiled=True) is None
    for name in ("inference.files.plan", "data.reading.rows"):
        monkeypatch.setattr(f"convlora.{name}.has_rasterio", lambda: False)
    remedy = "pip install 'convlora[geo]'"
    says(coordinates_lost(plan(images, output, False), tiled=False), *lost, remedy, "--tile")
    write_geo_tiff(tmp_path / "b.tif", noise(70, 83), **place)
    jobs = plan([*images, tmp_path / "b.tif"], output, False, tiled=True)
    told = coordinates_lost(jobs, tiled=True)
    says(told, *lost, "1 more", remedy)
    assert "--tile" not in told


@pytest.mark.parametrize(("image", "beside"), [("a.tif", "a.tfw"), ("a.png", "a.pgw"), ("a.jpg", "a.jpgw")])
def test_world_files_are_coordinates_too(tmp_path, image, beside):
    Image.fromarray(noise(70, 83)).save(tmp_path / image)
    jobs = plan([tmp_path / image], tmp_path / "out", False)
    assert coordinates_lost(jobs, tiled=False) is None
    (tmp_path / beside).write_text("0.5\n0\n0\n-0.5\n400000\n5200000\n")
    assert coordinates_lost(jobs, tiled=False).startswith(f"{tmp_path / image} has coordinates")


def test_images_for_print_lose_their_coordinates(tmp_path):
    inks = np.dstack([noise(70, 83), noise(70, 83)[..., :1]])
    write_geo_tiff(tmp_path / "a.tif", inks, photometric="CMYK")
    jobs = plan([tmp_path / "a.tif"], tmp_path / "out", False, tiled=True)
    assert jobs[0].mask.suffix == ".png"
    assert coordinates_lost(jobs, tiled=True).endswith("For a GeoTIFF, convert it to a TIFF in upright RGB or grey.")


def test_a_name_stands_for_one_image_whatever_its_result_is(tmp_path):
    write_geo_tiff(tmp_path / "a.tif", noise(40, 40))
    Image.fromarray(noise(40, 40)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="would both be written"):
        plan([tmp_path / "a.tif", tmp_path / "a.png"], tmp_path / "out", with_overlay=False, tiled=True)
    with pytest.raises(InputError, match="would replace it"):
        plan([tmp_path / "a.tif"], tmp_path, with_overlay=False, tiled=True)
    (tmp_path / "out").mkdir()
    write_geo_tiff(tmp_path / "out" / "a.tif", noise(40, 40))
    with pytest.raises(InputError, match="was not made by convlora"):
        plan([tmp_path / "a.tif"], tmp_path / "out", with_overlay=False, tiled=True)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_pictures_of_large_images_are_reduced(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(reduced, "LONGEST", 40)
    monkeypatch.setattr(reduced, "_PIECE", 83 * 3 * 4)
    segmenter, pixels = local_segmenter(), noise(70, 83)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    segment(segmenter, [tmp_path / f"a{suffix}"], tmp_path / "out", overlay=True)
    classes = segmenter.predict_tiled(pixels)
    with Image.open(tmp_path / "out" / "a_overlay.png") as picture:
        drawn = np.asarray(picture)
    assert drawn.shape == (24, 28, 3), "a third, rounded up"
    small = np.asarray(Image.fromarray(pixels).reduce(3))
    middles = classes[np.ix_(np.minimum(np.arange(24) * 3 + 1, 69), np.minimum(np.arange(28) * 3 + 1, 82))]
    assert np.array_equal((drawn != small).any(axis=-1), middles > 0)


def test_a_damaged_image_leaves_nothing_and_stops_nothing(tmp_path):
    pytest.importorskip("rasterio")
    for name in "ab":
        Image.fromarray(noise(90, 90)).save(tmp_path / f"{name}.tif", compression="tiff_lzw")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    done = []
    bad, good = segment(local_segmenter(), sorted(tmp_path.glob("*.tif")), tmp_path / "out", progress=done.append)
    assert "a.tif is damaged" in bad["error"]
    assert good["mask"].endswith("b.png")
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["b.png", "shares.json"]
    assert done == [1, 1]


def test_the_command(convlora, trained_run, tmp_path):
    Image.fromarray(noise(100, 130)).save(tmp_path / "a.png")
    arguments = ["predict", trained_run, tmp_path / "a.png", "--device", "cpu", "--json"]
    found = {}
    for name, options in (
        ("plain", []),
        ("tile", ["--tile"]),
        ("batch", ["--tile", "--batch-size", 3]),
        ("overlap", ["--tile", "--tile-overlap", 0.5]),
        ("size", ["--tile-size", 70]),
        ("large", ["--tile-size", 130]),
    ):
        code, out, _ = convlora(*arguments, "--output", tmp_path / name, *options)
        assert code == 0
        (found[name],) = json.loads(out)["images"]
        assert found[name]["size"] == [100, 130]
    shares = {name: result["shares"]["cell"] for name, result in found.items()}
    assert shares["large"] == shares["plain"], "one window is the whole image"
    assert shares["batch"] == pytest.approx(shares["tile"], abs=1e-3)
    assert found["tile"].keys() == found["plain"].keys()


@pytest.mark.parametrize("options", [[], ["--tile"]])
def test_plain_results_hold_the_classes_for_every_reader(convlora, trained_run, tmp_path, options):
    """Readers such as OpenCV's make colours, or shades of grey, of a palette."""
    Image.fromarray(noise(100, 130)).save(tmp_path / "a.png")
    arguments = ["predict", trained_run, tmp_path / "a.png", "--device", "cpu", *options]
    for name, more in (("palette", []), ("plain", ["--plain"])):
        assert convlora(*arguments, "--output", tmp_path / name, *more)[0] == 0
    with Image.open(tmp_path / "palette" / "a.png") as one, Image.open(tmp_path / "plain" / "a.png") as other:
        assert (one.mode, other.mode) == ("P", "L")
        assert np.array_equal(np.asarray(one), np.asarray(other))
    # With --resume the other kind is not taken for what is asked for.
    assert convlora(*arguments, "--output", tmp_path / "plain", "--resume")[0] == 0
    with Image.open(tmp_path / "plain" / "a.png") as image:
        assert image.mode == "P"


def test_the_command_says_what_it_leaves_out(convlora, trained_run, tmp_path):
    for name, channels in (("stack", 1), ("bands", 5)):
        values = np.moveaxis(np.dstack([noise(40, 40)] * 3)[..., : max(channels, 4)], -1, 0)
        planar = {"planarconfig": "separate"} if channels > 1 else {}
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="minisblack", metadata=None, **planar)
    images = [tmp_path / "stack.tif", tmp_path / "bands.tif"]
    code, _, err = convlora("predict", trained_run, *images, "--output", tmp_path / "out", "--device", "cpu")
    assert code == 0
    assert f"Note: {images[0]} has 4 pages or frames. Only the first is segmented. " in err
    assert f"{images[1]} has 2 channels that are not used." in err
    assert parts_left_out([Image.fromarray(noise(40, 40))]) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tile-size", "7"], "--tile-size is 7"),
        (["--tile", "--tile-overlap", "1"], "--tile-overlap is 1"),
        (["--tile-overlap", "0.3"], "no effect without --tile"),
    ],
)
def test_options_that_make_no_sense(convlora, trained_run, blobs, tmp_path, options, words):
    code, out, err = convlora("predict", trained_run, blobs / "test" / "images", "--output", tmp_path / "p", *options)
    assert code == 2
    assert not out
    assert words in err
    assert not (tmp_path / "p").exists()
