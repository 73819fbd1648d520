"""What a prediction offers in Python."""

import io

import numpy as np
import pytest
from PIL import Image

from convlora import Prediction
from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError

CLASSES = ClassTable(names=("background", "crack"))


def prediction(source, size=(6, 8)):
    semantic_map = np.zeros(size, np.uint8)
    semantic_map[1:3, 2:6] = 1
    probabilities = np.stack([1.0 - semantic_map, semantic_map]).astype(np.float32)
    return Prediction(semantic_map, probabilities, CLASSES, source)


def test_areas_are_pixels_by_name():
    assert prediction(Image.new("RGB", (8, 6))).areas() == {"background": 40, "crack": 8}


def test_repr_is_short():
    text = repr(prediction(Image.new("RGB", (8, 6))))
    assert text == "Prediction(8 x 6 pixels: background 83.3%, crack 16.7%)"


@pytest.mark.parametrize(("plain", "mode"), [(False, "P"), (True, "L")])
def test_saved_values_are_the_classes(tmp_path, plain, mode):
    made = prediction(Image.new("RGB", (8, 6)))
    path = made.save(tmp_path / "new" / "map.png", plain=plain)
    with Image.open(path) as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), made.semantic_map)


def test_formats_that_change_values_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"map\.jpg must end in \.png"):
        prediction(Image.new("RGB", (8, 6))).save(tmp_path / "map.jpg")
    assert not list(tmp_path.iterdir())


def test_overlay_and_notebook_picture(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 6), (10, 20, 30)).save(path)
    made = prediction(path)
    overlay = np.asarray(made.overlay())
    assert (overlay[0, 0] == (10, 20, 30)).all()
    assert (overlay[1, 3] != (10, 20, 30)).any()
    assert Image.open(io.BytesIO(made._repr_png_())).size == (8, 6)


def test_an_image_that_has_changed_is_not_drawn_over(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (9, 6)).save(path)
    with pytest.raises(InputError, match="has changed"):
        prediction(path).overlay()
