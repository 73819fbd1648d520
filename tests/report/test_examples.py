import numpy as np
import pytest
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.report.examples import choose, image_score
from convlora.report.outcomes import FALSE, IGNORED, MISSED, OTHER, RIGHT, legend, outcome_picture, outcomes


def lines(*scores):
    return [{"image": f"i{number}", "iou": score} for number, score in enumerate(scores)]


def test_the_worst_and_those_around_the_median():
    chosen = choose(lines(*np.linspace(0, 1, 101)), most=3)
    assert [score for _, score in chosen.worst] == pytest.approx([0, 0.01, 0.02])
    assert [score for _, score in chosen.typical] == pytest.approx([0.49, 0.5, 0.51])


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30])
def test_no_image_is_shown_twice(count):
    chosen = choose(lines(*np.linspace(0, 1, count)))
    names = [name for group in chosen for name, _ in group]
    assert len(names) == len(set(names)) == min(count, 24)


def test_the_score_of_an_image_with_several_classes_leaves_out_classes_that_are_not_there():
    assert image_score({"right": [2, 0, 0], "true": [4, 2, 0], "predicted": [2, 4, 0]}) == pytest.approx(0.25)


def test_each_kind_of_outcome():
    truth, found = np.array([[0, 1, 1, 0, 1, 255]]), np.array([[0, 1, 0, 1, 2, 1]])
    with_background = ClassTable(("background", "a", "b"))
    assert outcomes(truth, found, with_background).tolist() == [[0, RIGHT, MISSED, FALSE, OTHER, IGNORED]]
    without = ClassTable(("road", "car", "tree"))
    assert outcomes(truth, found, without).tolist() == [[0, 0, OTHER, OTHER, OTHER, IGNORED]]
    for classes in (with_background, without, ClassTable(("background", "crack"))):
        assert len(legend(classes, True)) == len(legend(classes, False)) + 1


def test_the_colours_differ_in_brightness_from_each_other_and_from_any_image():
    codes = np.array([[0, 0, RIGHT, MISSED, FALSE]], dtype=np.uint8)
    picture = outcome_picture(Image.fromarray(np.array([[0, 255, 0, 255, 128]], dtype=np.uint8)), codes)
    red, green, blue = np.moveaxis(np.asarray(picture, dtype=float)[0], -1, 0)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    _, brightest, right, missed, false = brightness
    assert min(right, missed, false) > brightest + 10
    assert min(abs(np.diff(sorted([right, missed, false])))) > 30
