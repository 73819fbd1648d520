import errno
import io
import resource
import signal

import numpy as np
import pytest
from PIL import Image

from convlora.errors import RunError
from convlora.inference.files.plan import is_own_result
from convlora.inference.files.writers import open_map
from convlora.pictures.palette import default_colours, indexed_image

rng = np.random.default_rng(0)


def write(path, classes, colours, step, **more):
    with open_map(path, classes.shape, colours, **more) as result:
        for top in range(0, len(classes), step):
            result.write(classes[top : top + step])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("number", [2, 7, 256, 300])
@pytest.mark.parametrize("step", [1, 10, 100])
def test_a_png_in_pieces_equals_one_in_one_piece(tmp_path, number, step, plain):
    classes = rng.integers(0, number, (37, 53)).astype(np.uint8 if number <= 256 else np.uint16)
    colours = default_colours(number)
    write(tmp_path / "a.png", classes, colours, step, plain=plain)
    expected = io.BytesIO()
    indexed_image(classes, colours, plain).save(expected, format="PNG")
    with Image.open(tmp_path / "a.png") as image, Image.open(expected) as whole:
        image.verify()
    with Image.open(tmp_path / "a.png") as image, Image.open(expected) as whole:
        assert image.mode == whole.mode
        assert image.mode == ("I;16" if number > 256 else "L" if plain else "P")
        assert np.array_equal(np.asarray(image), np.asarray(whole))
        assert image.getpalette() == whole.getpalette()
    assert is_own_result(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_unfinished_map_leaves_the_earlier_one(tmp_path, suffix):
    if suffix == ".tif":
        pytest.importorskip("rasterio")
    path = tmp_path / f"a{suffix}"
    write(path, np.ones((40, 40), np.uint8), default_colours(2), 40)
    before = path.read_bytes()

    def interrupted():
        with open_map(path, (40, 40), default_colours(2)) as result:
            result.write(np.zeros((20, 40), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_results_too_large_for_pillow_are_known_as_own_ones(tmp_path, monkeypatch):
    write(tmp_path / "a.png", np.zeros((40, 40), np.uint8), default_colours(2), 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert is_own_result(tmp_path / "a.png")
    Image.new("L", (40, 40)).save(tmp_path / "b.png")
    assert not is_own_result(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    assert not is_own_result(tmp_path / "c.png")


@pytest.mark.parametrize(("number", "kind"), [(3, "uint8"), (300, "uint16")])
def test_a_geo_tiff_is_tiled_compressed_and_coloured(tmp_path, number, kind):
    rasterio = pytest.importorskip("rasterio")
    from convlora.data.reading.gdal import gdal

    classes = rng.integers(0, number, (600, 530)).astype(kind)
    colours = default_colours(number)
    write(tmp_path / "a.tif", classes, colours, 70)
    with gdal(), rasterio.open(tmp_path / "a.tif") as result:
        assert np.array_equal(result.read(1), classes)
        assert (result.count, result.dtypes[0]) == (1, kind)
        assert result.block_shapes == [(256, 256)]
        assert result.compression.name == "deflate"
        if number <= 256:
            assert [result.colormap(1)[index][:3] for index in range(number)] == list(colours)
    assert is_own_result(tmp_path / "a.tif")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tif"]


def test_a_plain_geo_tiff_has_no_colours(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from convlora.data.reading.gdal import gdal

    classes = rng.integers(0, 3, (60, 50)).astype(np.uint8)
    write(tmp_path / "a.tif", classes, default_colours(3), 70, plain=True)
    with gdal(), rasterio.open(tmp_path / "a.tif") as result:
        assert np.array_equal(result.read(1), classes)
        assert result.colorinterp[0].name == "gray"


def test_a_geo_tiff_wastes_nothing_on_blocks_written_twice(tmp_path):
    pytest.importorskip("rasterio")
    classes = rng.integers(0, 200, (2048, 256)).astype(np.uint8)
    for name, step in (("whole.tif", 2048), ("pieces.tif", 100)):
        write(tmp_path / name, classes, default_colours(200), step)
    assert (tmp_path / "pieces.tif").stat().st_size <= 1.01 * (tmp_path / "whole.tif").stat().st_size


def test_a_geo_tiff_that_cannot_be_written(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")

    def full(*_, **__):
        raise rasterio.errors.RasterioIOError(errno.ENOSPC, "no space")

    monkeypatch.setattr("convlora.inference.files.geo_tiff.rasterio.open", full)
    with pytest.raises(RunError, match=r"a\.tif could not be written\. Check the space"):
        write(tmp_path / "a.tif", np.zeros((9, 9), np.uint8), default_colours(2), 9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_geo_tiff_that_does_not_fit_on_the_disk(tmp_path, share):
    """The last blocks are written when the file is closed, and no error is told of that."""
    pytest.importorskip("rasterio")
    path, classes = tmp_path / "a.tif", rng.integers(0, 2, (600, 700)).astype(np.uint8)
    write(path, classes, default_colours(2), 600)
    size = path.stat().st_size
    path.unlink()
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * size), limits[1]))
    try:
        with pytest.raises(RunError, match=r"a\.tif could not be written\. Check the space"):
            write(path, classes, default_colours(2), 600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []
