import numpy as np
from PIL import Image

from convlora.inference.palette import class_colour, indexed_image, outline, overlay


def test_indexed_images_keep_the_classes(tmp_path):
    semantic_map = np.random.default_rng(0).integers(0, 20, (13, 17)).astype(np.uint8)
    indexed_image(semantic_map).save(tmp_path / "map.png", optimize=True)
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), semantic_map)
        colours = np.asarray(image.convert("RGB"))
    assert tuple(colours[semantic_map == 1][0]) == class_colour(1)


def test_colours_differ():
    assert len({class_colour(index) for index in range(8)}) == 8
    assert class_colour(8) == class_colour(1)
    assert all(class_colour(index) != (0, 0, 0) for index in range(1, 256))


def test_overlay_changes_the_foreground_only():
    image = Image.new("RGB", (20, 20), (100, 100, 100))
    semantic_map = np.zeros((20, 20), np.uint8)
    semantic_map[5:15, 5:15] = 1
    pixels = np.asarray(overlay(image, semantic_map))
    assert (pixels[semantic_map == 0] == 100).all()
    assert (pixels[semantic_map == 1] != 100).any(axis=-1).all()
    assert tuple(pixels[5, 5]) == class_colour(1), "the outline is opaque"
    assert tuple(pixels[10, 10]) != class_colour(1), "the inside is not"


def test_outline_is_the_rim():
    semantic_map = np.zeros((7, 7), np.uint8)
    semantic_map[2:5, 2:5] = 1
    rim = outline(semantic_map)
    assert rim.sum() == 8
    assert not rim[3, 3]
    assert not outline(np.ones((4, 4), np.uint8)).any(), "the border of the picture is no outline"
