import io

import numpy as np
import pytest
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.pictures.legend import with_legend
from convlora.pictures.palette import class_colours, default_colours, indexed_image, outline, overlay
from convlora.pictures.png import write_png


def test_indexed_images_keep_the_classes(tmp_path):
    semantic_map = np.random.default_rng(0).integers(0, 20, (13, 17)).astype(np.uint8)
    indexed_image(semantic_map, default_colours(20)).save(tmp_path / "map.png", optimize=True)
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), semantic_map)
        colours = np.asarray(image.convert("RGB"))
    assert tuple(colours[semantic_map == 1][0]) == default_colours(20)[1]


def test_more_than_256_classes_are_kept_in_16_bits(tmp_path):
    semantic_map = np.array([[0, 300], [256, 255]], dtype=np.uint16)
    indexed_image(semantic_map, default_colours(301)).save(tmp_path / "map.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "map.png")), semantic_map)


def test_all_colours_differ_and_only_the_background_is_black():
    for background in (0, None):
        colours = default_colours(400, background)
        assert len(set(colours)) == 400
        assert [index for index, colour in enumerate(colours) if colour == (0, 0, 0)] == [0] * (background == 0)
        assert default_colours(5, background) == colours[:5], "more classes do not change the colours of the first"


def test_colours_of_the_data_win():
    given = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert class_colours(ClassTable(("a", "b", "c"), colors=given)) == given
    assert class_colours(ClassTable(("background", "b", "c")))[0] == (0, 0, 0)
    assert (0, 0, 0) not in class_colours(ClassTable(("sky", "b", "c")))


def test_the_legend_stands_below_and_changes_nothing_above():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 200, 3), dtype=np.uint8))
    entries = [((255, 0, 0), "first"), ((0, 255, 0), "second, longer"), ((0, 0, 255), "third")]
    result = with_legend(photo, entries)
    assert result.width == 200
    assert result.height > 60
    assert np.array_equal(np.asarray(result)[:60], np.asarray(photo))
    below = {tuple(colour) for colour in np.asarray(result)[60:].reshape(-1, 3).tolist()}
    assert {colour for colour, _ in entries} <= below
    assert with_legend(photo, entries * 3).height > result.height, "what does not fit goes into the next line"
    assert with_legend(photo, []).size == photo.size
    wide = with_legend(photo, [((255, 0, 0), "a name that is much longer than the picture is wide, and then some")])
    assert wide.width > 200
    assert (np.asarray(wide)[:, -5:] == 255).all(), "the end of the name is there too"


def test_overlay_changes_the_foreground_only():
    image = Image.new("RGB", (20, 20), (100, 100, 100))
    semantic_map = np.zeros((20, 20), np.uint8)
    semantic_map[5:15, 5:15] = 1
    pixels = np.asarray(overlay(image, semantic_map, default_colours(20)))
    assert (pixels[semantic_map == 0] == 100).all()
    assert (pixels[semantic_map == 1] != 100).any(axis=-1).all()
    assert tuple(pixels[5, 5]) == default_colours(20)[1], "the outline is opaque"
    assert tuple(pixels[10, 10]) != default_colours(20)[1], "the inside is not"


def test_outline_is_the_rim():
    semantic_map = np.zeros((7, 7), np.uint8)
    semantic_map[2:5, 2:5] = 1
    rim = outline(semantic_map) & (semantic_map == 1)
    assert rim.sum() == 8
    assert not rim[3, 3]
    assert not outline(np.ones((4, 4), np.uint8)).any(), "the border of the picture is no outline"


def test_a_picture_is_the_same_in_any_number_of_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8))
    classes, known = rng.integers(0, 3, (10, 8)).repeat(5, 0).repeat(5, 1), rng.random((50, 40)) > 0.2
    whole = np.asarray(overlay(image, classes, default_colours(3), known=known))
    monkeypatch.setattr("convlora.pictures.palette._ROWS", 7)
    assert np.array_equal(np.asarray(overlay(image, classes, default_colours(3), known=known)), whole)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
def test_outlines_by_their_definition(width):
    rng = np.random.default_rng(width)
    for classes in (rng.integers(0, 3, (9, 14)), rng.integers(0, 2, (4, 5)).repeat(5, 0).repeat(4, 1)):
        expected = np.zeros(classes.shape, bool)
        for row, column in np.ndindex(classes.shape):
            above, left = max(0, row - width), max(0, column - width)
            seen = {*classes[above : row + width + 1, column], *classes[row, left : column + width + 1]}
            expected[row, column] = len(seen) > 1
        assert np.array_equal(outline(classes, width), expected)


def test_tints_by_their_formula():
    rng = np.random.default_rng(0)
    pixels, classes = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8), rng.integers(0, 4, (70, 90)).astype(np.uint8)
    known, colours = rng.random((70, 90)) > 0.2, default_colours(4)
    palette = np.asarray(colours, np.float32)
    expected = ((1 - 0.45) * pixels.astype(np.float32) + 0.45 * palette[classes]).round()
    rim = outline(classes)
    expected[rim] = palette[classes[rim]]
    untouched = ~known | (classes == 1)
    expected[untouched] = pixels[untouched]
    found = overlay(Image.fromarray(pixels), classes, colours, background=1, known=known)
    assert np.array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (900, 500)])
@pytest.mark.parametrize("mode", ["RGB", "P", "L", "I;16"])
def test_png_files_hold_every_pixel(size, mode):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3) if mode == "RGB" else size).astype(
        np.uint16 if mode == "I;16" else np.uint8
    )
    pixels[: size[0] // 2] = pixels[0, 0]
    image = indexed_image(pixels, default_colours(256)) if mode == "P" else Image.fromarray(pixels)
    assert image.mode == mode
    written = io.BytesIO()
    write_png(image, written)
    with Image.open(written) as found:
        found.verify()
    with Image.open(written) as found:
        assert (found.mode, found.size, found.getpalette()) == (mode, image.size, image.getpalette())
        assert np.array_equal(np.asarray(found), pixels)
        assert found.text == {"Software": "convlora"}
