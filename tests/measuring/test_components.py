"""Objects found some rows at a time are those that scikit-image finds in the whole map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, perimeter, regionprops

from convlora.measuring import components
from convlora.measuring.components import ComponentCollector
from convlora.measuring.spans import drawn


def collected(classes, background=0, known=None, probability=None, bands=(3, 1, 4), keep_spans=True):
    """The objects of a map that comes in bands of these heights, in turn."""
    collector, top, turn = ComponentCollector(classes.shape, background, keep_spans), 0, 0
    while top < len(classes):
        part = slice(top, top + bands[turn % len(bands)])
        collector.add(*(None if one is None else one[part] for one in (classes, known, probability)))
        top, turn = part.stop, turn + 1
    return collector.finish()


def whole_labels(classes, background=0, known=None):
    values = classes.astype(np.int64) + 1
    if background is not None:
        values[classes == background] = 0
    if known is not None:
        values[~known] = 0
    return label(values, background=0, connectivity=2), values


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    num_classes=st.integers(2, 4),
    coarse=st.booleans(),
    background=st.sampled_from([0, 1, None]),
    piece=st.integers(1, 100),
    bands=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_against_scikit_image(seed, height, width, num_classes, coarse, background, piece, bands):
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, num_classes, (height, width)).astype(np.uint8)
    if coarse:
        classes = np.kron(classes, np.ones((3, 2), np.uint8))
    known = generator.random(classes.shape) < 0.9
    probability = generator.random(classes.shape).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "_PIECE", piece)
        found = collected(classes, background, known, probability, bands)
    labels, values = whole_labels(classes, background, known)
    expected = regionprops(labels, intensity_image=probability)
    assert len(found) == len(expected)
    assert np.array_equal(drawn(found.spans, (0, 0, *classes.shape), found.spans.owners + 1), labels)
    for index, one in enumerate(expected):
        assert found.classes[index] == values[labels == index + 1][0] - 1
        assert found.pixels[index] == one.area
        assert tuple(found.boxes[index]) == one.bbox
        assert found.centres[index] == pytest.approx(one.centroid)
        assert found.probabilities[index] == pytest.approx(one.mean_intensity)
        assert found.perimeters()[index] == pytest.approx(one.perimeter)


def test_what_touches_across_a_corner_is_one_object():
    found = collected(np.array([[1, 0, 2], [0, 1, 0], [1, 0, 2]]), bands=(1,))
    assert found.pixels.tolist() == [3, 1, 1]
    assert found.classes.tolist() == [1, 2, 2]


def test_touching_objects_of_two_classes_stay_two():
    found = collected(np.array([[1, 1, 2, 2], [1, 1, 2, 2]]))
    assert found.classes.tolist() == [1, 2]
    assert found.boxes.tolist() == [[0, 0, 2, 2], [0, 2, 2, 4]]
    assert found.perimeters().tolist() == [4, 4]


def test_objects_that_meet_further_down_are_one():
    """Two arms of a U come with different labels, and are joined when its ground comes."""
    classes = np.zeros((50, 21), int)
    classes[:, 3] = classes[:, 17] = 1
    classes[49, 3:18] = 1
    (pixels,) = collected(classes, bands=(1,)).pixels
    assert pixels == classes.sum()


@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (0, 7)])
def test_an_empty_map_has_no_objects(shape):
    found = collected(np.zeros(shape, np.uint8))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.perimeters().shape == (0,)


def test_a_map_that_is_one_object():
    found = collected(np.ones((6, 9), np.uint8), bands=(2,))
    assert found.boxes.tolist() == [[0, 0, 6, 9]]
    assert found.centres.tolist() == [[2.5, 4]]
    assert found.perimeters() == pytest.approx([perimeter(np.ones((6, 9)))])
    assert found.probabilities is None


def test_pixels_need_not_be_square():
    """A bar of 1 x 8 pixels, each twice as wide as high, whose border is walked along and back."""
    found = collected(np.ones((1, 8), np.uint8), keep_spans=False)
    assert found.spans is None
    steps = found.steps[0]
    sides = np.array([[[2.0, 0], [0, 1.0]]])
    assert found.areas(sides).tolist() == [16]
    assert found.perimeters(sides) == pytest.approx([2 * steps[0] + steps[1] + np.sqrt(5) * steps[2]])
    upright = collected(np.ones((8, 1), np.uint8))
    assert upright.perimeters(np.array([[[1.0, 0], [0, 2.0]]])) == pytest.approx(found.perimeters(sides))
    square = np.array([[[0.6, 0.8], [-0.8, 0.6]]])  # turned
    assert found.perimeters(square) == pytest.approx(found.perimeters())
