import numpy as np
import pytest

from convlora.metrics import sums
from convlora.metrics.sums import PairwiseSum, pieces


@pytest.mark.parametrize("number", [0, 1, 7, 9, 129, 1000, 1024, 1025, 5003, 40_009])
def test_the_sum_equals_that_of_numpy_to_the_last_digit(monkeypatch, number):
    monkeypatch.setattr(sums, "_LEAF", 1024)
    rng = np.random.default_rng(number)
    values = rng.standard_normal(number) * 10.0 ** rng.integers(-8, 8, number)  # so that the order of the sum shows
    total, start = PairwiseSum(number), 0
    while start < number:
        length = int(rng.integers(1, 3000))
        total.add(values[start : start + length])
        start += length
    assert total.total() == values.sum()


def test_missing_numbers_are_an_error():
    total = PairwiseSum(5)
    total.add(np.ones(4))
    with pytest.raises(ValueError, match="fewer than 5 numbers"):
        total.total()


def test_pieces_cover_an_image_once(monkeypatch):
    monkeypatch.setattr(sums, "_PIECE", 100)
    assert [list(range(7))[rows] for rows in pieces((7, 30))] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(pieces((2, 1000))) == [slice(0, 1), slice(1, 2)]
