import numpy as np
import py_sod_metrics
import pytest

from convlora.metrics import structure
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


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_scores_computed_together_equal_those_computed_alone(monkeypatch, large):
    """To the last digit, in a thread or not."""
    monkeypatch.setattr(structure, "_LARGE", large)
    monkeypatch.setattr(structure, "usable_cores", lambda: 2)
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        probabilities, foreground = rng.random((40, 50)), rng.random((40, 50)) < share
        valid = rng.random((40, 50)) > 0.1
        found = structure_scores(probabilities, foreground, valid)
        stretched, truth = structure.stretch(probabilities, valid), foreground & valid
        for name, beta in (("weighted_f", 0.3), ("weighted_f_beta1", 1)):
            measure = py_sod_metrics.WeightedFmeasure(beta=beta)
            measure.step(stretched, truth, normalize=False)
            assert found[name] == measure.get_results()["wfm"]
