from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from convlora.inference.polygons import TooManyCornersError, regions


def inside(ring, shape):
    """Pixels that a ring encloses, by counting the sides to the left of their middles."""
    y, x = np.indices(shape) + 0.5
    crossed = np.zeros(shape, int)
    for (x0, y0), (x1, y1) in pairwise(ring):
        if x0 == x1:
            crossed += (min(y0, y1) < y) & (y < max(y0, y1)) & (x0 < x)
    return crossed % 2 == 1


@st.composite
def maps(draw):
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    values = draw(st.lists(st.integers(0, 2), min_size=height * width, max_size=height * width))
    return np.array(values, np.uint8).reshape(height, width)


@given(maps())
def test_rings_enclose_exactly_the_regions(semantic_map):
    found = regions(semantic_map, 2)
    drawn = np.full(semantic_map.shape, 2)  # 2 is no class
    for region in found:
        outline, *holes = (inside(ring, semantic_map.shape) for ring in region.rings)
        for hole in holes:
            assert not (hole & ~outline).any()
            outline = outline & ~hole
        assert outline.sum() == region.pixels
        assert (drawn[outline] == 2).all()
        drawn[outline] = region.class_index
    assert np.array_equal(drawn, semantic_map)
    assert len(found) == sum(ndimage.label(semantic_map == index)[1] for index in (0, 1))


@given(maps())
def test_rings_are_simple(semantic_map):
    for region in regions(semantic_map, 3):
        for number, ring in enumerate(region.rings):
            assert ring[0] == ring[-1]
            assert len(set(ring)) == len(ring) - 1 >= 4
            for (x0, y0), (x1, y1), (x2, _) in zip(ring, ring[1:], [*ring[2:], ring[1]]):
                assert (x0 == x1) != (y0 == y1)
                assert (x0 == x1) != (x1 == x2)  # every corner is one
            area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
            assert (area > 0) == (number == 0)


def test_a_square_with_a_hole():
    semantic_map = np.zeros((5, 6), np.uint8)
    semantic_map[1:4, 2:5] = 1
    semantic_map[2, 3] = 0
    (region,) = regions(semantic_map, 2, leave_out=0)
    assert region.rings[0] == [(2, 1), (5, 1), (5, 4), (2, 4), (2, 1)]
    assert len(region.rings) == 2
    assert sorted(set(region.rings[1])) == [(3, 2), (3, 3), (4, 2), (4, 3)]
    assert (region.class_index, region.pixels) == (1, 8)


def test_large_regions_come_first_and_too_many_corners_are_refused():
    semantic_map = np.array([[1, 0, 1, 1], [0, 0, 1, 1]], np.uint16)
    assert [region.pixels for region in regions(semantic_map, 2, leave_out=0)] == [4, 1]
    assert len(regions(semantic_map, 2, leave_out=0, most_corners=8)) == 2
    with pytest.raises(TooManyCornersError):
        regions(semantic_map, 2, leave_out=0, most_corners=7)
    assert regions(semantic_map, 1) == regions(np.array([[9, 0, 9, 9], [0, 0, 9, 9]]), 1)
