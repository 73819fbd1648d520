"""Masks in the forms of CVAT and Label Studio, against decoders written from the published formats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from convlora.measuring.brush import MOST_PIXELS, brush_runs
from convlora.measuring.row_runs import mask_of, row_runs
from tests.helpers.label_tools import brush_mask

MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_brush_strokes_are_the_mask(mask):
    assert np.array_equal(brush_mask(brush_runs(mask), mask.shape), mask)


@pytest.mark.parametrize("width", [2, 4, 64, 16384, 16385, 40000])  # runs as long as a width holds, and longer
def test_long_strokes(width):
    mask = np.zeros((2, width), bool)
    mask[1, : width - 1] = True
    assert np.array_equal(brush_mask(brush_runs(mask), mask.shape), mask)


def test_too_many_pixels_for_a_stroke():
    with pytest.raises(ValueError, match="too many"):
        brush_runs(np.broadcast_to(np.False_, (2, MOST_PIXELS // 2 + 1)))


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_runs_along_rows_are_the_mask(mask):
    runs = row_runs(mask)
    assert all(run > 0 for run in runs[1:])
    assert np.array_equal(mask_of(runs, mask.shape), mask)


@pytest.mark.parametrize("runs", [[1, 2], [3, -1, 2], [1, 2, 3]])
def test_runs_of_another_size(runs):
    with pytest.raises(ValueError, match="no runs"):
        mask_of(runs, (2, 2))
