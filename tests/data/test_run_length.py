import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from convlora.data.sources.run_length import run_length_mask


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 1000))
def test_it_undoes_cocos_encoding(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    compressed = {"size": [height, width], "counts": encoded["counts"].decode()}
    assert np.array_equal(run_length_mask(compressed, height, width), mask)
    flat = mask.T.ravel()
    starts = np.flatnonzero(np.diff(flat.astype(int), prepend=0 if flat[0] == 0 else -1))
    runs = np.diff([0, *starts[starts > 0], flat.size]).tolist()
    plain = {"size": [height, width], "counts": [0, *runs] if flat[0] else runs}
    assert np.array_equal(run_length_mask(plain, height, width), mask)


def test_large_runs_and_differences():
    mask = np.zeros((3000, 2000), dtype=bool)
    mask[1500:, 700:1900] = True
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = encoded["counts"].decode()
    assert np.array_equal(run_length_mask({"size": [3000, 2000], "counts": text}, 3000, 2000), mask)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        ({"size": [2, 3], "counts": [6]}, "its size"),
        ({"size": [3, 2], "counts": [7]}, "add up to 7 pixels instead of 6"),
        ({"size": [3, 2], "counts": [10**12, 5]}, "add up to"),
        ({"size": [3, 2], "counts": [-1, 7]}, "not whole numbers"),
        ({"size": [3, 2], "counts": None}, "not whole numbers"),
        ({"size": [3, 2], "counts": "o" * 40}, "damaged"),
        ({"size": [3, 2], "counts": "P"}, "end too early"),
        ({"size": [3, 2], "counts": "é"}, "damaged"),
        ({}, "its size"),
    ],
)
def test_what_describes_no_mask_is_refused(encoded, message):
    with pytest.raises(ValueError, match=message):
        run_length_mask(encoded, 3, 2)
