import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convlora.errors import InputError
from convlora.inference.windows import UNUSED, Axis, Grid, Tiles


@given(st.integers(1, 3000), st.integers(16, 300), st.floats(0, 0.9))
def test_windows_cover_a_side_and_their_weights_sum_to_one(length, window, overlap):
    axis = Axis.over(length, window, overlap)
    assert axis.starts[0] == 0
    assert axis.stops[-1] == length
    total = np.zeros(length)
    for start, stop, weight in zip(axis.starts, axis.stops, axis.weights, strict=True):
        assert weight.shape == (stop - start,)
        assert (weight >= 0).all()
        total[start:stop] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(st.integers(301, 3000), st.integers(16, 300), st.floats(0, 0.9))
def test_neighbours_overlap_as_much_as_asked_for_and_no_window_is_superfluous(length, window, overlap):
    axis = Axis.over(length, window, overlap)
    steps = np.diff(axis.starts)
    assert (steps >= 1).all()
    assert (window - steps >= overlap * window - 1e-6).all() or (steps == 1).all()
    assert steps.max() - steps.min() <= 1, "spread evenly"
    widest = max(1, int(window * (1 - overlap)))
    assert (len(axis.starts) - 2) * widest + window < length, "one window less would not do"


def test_the_outermost_pixels_of_a_window_do_not_count_but_at_the_border_of_the_image():
    axis = Axis.over(160, 64, 0.25)
    assert axis.starts == (0, 48, 96)
    unused = round(UNUSED * 16)
    first, middle, last = axis.weights
    for side in (middle[:unused], middle[-unused:], first[-unused:], last[:unused]):
        assert (side == 0).all()
    assert (first[:48] == 1).all()
    assert (last[16:] == 1).all()
    assert (np.diff(middle[unused : 16 - unused]) > 0).all(), "then it rises"
    assert (middle[16 - unused : 48 + unused] == 1).all(), "where the neighbours do not count"
    np.testing.assert_allclose(middle, middle[::-1], atol=1e-6)


def test_one_window_counts_fully():
    (weight,) = Axis.over(50, 64, 0.25).weights
    assert np.array_equal(weight, np.ones(50, np.float32))


@pytest.mark.parametrize(
    ("size", "window", "number"),
    [((64, 64), (64, 64), 1), ((30, 40), (30, 40), 1), ((65, 64), (64, 64), 2), ((30, 65), (64, 64), 2)],
)
def test_an_image_that_fits_is_its_own_window(size, window, number):
    grid = Grid.over(size, (64, 64), 0.25)
    assert grid.window == window
    assert len(grid) == number


def test_windows_have_the_shape_that_the_model_sees():
    assert Tiles().window((320, 480)) == (320, 480)
    assert Tiles(960).window((320, 480)) == (640, 960)
    assert Tiles(100).window((64, 64)) == (100, 100)


def test_windows_that_make_no_sense():
    with pytest.raises(InputError, match=r"--tile-size is 8, but .* at least 16 pixels\. Leave it out"):
        Tiles(8)
    for overlap in (-0.1, 0.95, float("nan")):
        with pytest.raises(InputError, match=r"--tile-overlap is .*, but must be from 0 to 0\.9\."):
            Tiles(overlap=overlap)
