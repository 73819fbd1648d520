import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from convlora.data.sources.polygons import clip_polygon

SIDE = 40


def drawn(points):
    image = Image.new("1", (SIDE, SIDE))
    if len(points) >= 3:
        ImageDraw.Draw(image).polygon(points.ravel().tolist(), fill=1)
    return np.asarray(image)


@given(st.integers(3, 9), st.integers(0, 10_000))
def test_what_is_inside_stays(corners, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-300, 300, (corners, 2))
    clipped = clip_polygon(points, (-SIDE, -SIDE), (2 * SIDE, 2 * SIDE))
    assert np.abs(clipped).max(initial=0) <= 2 * SIDE + 1e-9
    assert (drawn(points) != drawn(clipped)).mean() < 0.02, "but for rounding along the edges"


def test_a_slope_is_not_changed():
    points = np.array([[0, 0], [1000, 500], [0, 500]], dtype=float)
    clipped = clip_polygon(points, (-100, -100), (200, 200))
    assert {tuple(point) for point in clipped.tolist()} == {(0, 0), (200, 100), (200, 200), (0, 200)}


def test_what_lies_outside_vanishes():
    assert len(clip_polygon(np.array([[50, 50], [60, 50], [60, 60]], dtype=float), (0, 0), (40, 40))) == 0
