"""The objects of a map in memory."""

import numpy as np
import pytest

import convlora
from convlora.errors import InputError
from convlora.measuring.table import COLUMNS


def test_in_units():
    """Two by three pixels of 2 x 0.5 mm."""
    classes = np.zeros((6, 8), np.uint8)
    classes[1:3, 4:7] = 2
    (found,) = convlora.measure_objects(
        classes,
        names=["ground", "leaf", "stone"],
        probability=np.full((6, 8), 0.75),
        pixel_size="2x0.5mm",
    )
    assert tuple(found) == COLUMNS
    perimeter = found.pop("perimeter")
    assert found == {
        "object": 1, "class": 2, "class_name": "stone", "area_px": 6, "row": 1.5, "column": 5.0,
        "top": 1, "left": 4, "bottom": 3, "right": 7, "perimeter_px": 6.0, "mean_probability": 0.75,
        "unit": "mm", "area": 6.0, "x": None, "y": None, "crs": None,
    }  # fmt: skip
    # Six border pixels: the corners have neighbours on two sides, those between on three.
    assert perimeter == pytest.approx(4 * (2 + 0.5) / 2 + 2 * (2 * 0.5 + 2) / 3)


def test_what_does_not_count():
    classes = np.array([[1, 1, 1, 1]])
    known = np.array([[True, False, True, True]])
    assert [one["area_px"] for one in convlora.measure_objects(classes, known=known)] == [1, 2]
    assert convlora.measure_objects(classes, background=1) == []
    assert [one["class_name"] for one in convlora.measure_objects(np.array([[0, 3]]), background=None)] == ["0", "3"]
    assert convlora.measure_objects(np.array([[True, False]]))[0]["area_px"] == 1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"semantic_map": np.zeros((2, 2, 3), int)}, r"\(H, W\)"),
        ({"semantic_map": np.zeros((2, 2))}, "float64"),
        ({"semantic_map": np.full((2, 2), -1)}, "from 0"),
        ({"semantic_map": np.full((2, 2), 1 << 40)}, "1099511627776"),
        ({"known": np.ones((3, 3), bool)}, "known"),
        ({"probability": np.ones((3, 3))}, "probability"),
        ({"names": ["a"]}, "names"),
        ({"pixel_size": "5"}, "^pixel_size must be a length"),
    ],
)
def test_refused(given, named):
    with pytest.raises(InputError, match=named):
        convlora.measure_objects(**({"semantic_map": np.ones((2, 2), int)} | given))
