import numpy as np
import pytest

from convlora.metrics.structure import stretch, structure_scores


def test_stretch_uses_valid_pixels_only():
    probabilities = np.array([[0.2, 0.3], [0.6, 0.9]])
    valid = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(stretch(probabilities, valid), [[0, 0.25], [1, 0]])


def test_constant_map_is_left_as_it_is():
    valid = np.array([[True, True], [True, False]])
    np.testing.assert_array_equal(stretch(np.full((2, 2), 0.3), valid), [[0.3, 0.3], [0.3, 0]])


def test_ignored_pixels_are_background_in_prediction_and_truth():
    generator = np.random.default_rng(0)
    probabilities, foreground = generator.random((9, 11)), generator.random((9, 11)) < 0.4
    probabilities[0, :2] = 0, 1  # so that the stretching does nothing
    valid = np.ones((9, 11), dtype=bool)
    valid[4:, 5:] = False
    with_mask = structure_scores(probabilities, foreground, valid)
    as_background = structure_scores(probabilities * valid, foreground & valid, np.ones_like(valid))
    for name in ("s_measure", "e_measure", "weighted_f", "weighted_f_beta1"):
        assert with_mask[name] == as_background[name], name
    assert with_mask["mae"] == pytest.approx(as_background["mae"] * valid.size / valid.sum())
