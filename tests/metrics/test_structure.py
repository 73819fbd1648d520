import warnings

import numpy as np
import py_sod_metrics
import pytest

from convlora.metrics import structure, sums, weighted_f
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


def expected(probabilities, foreground, valid):
    """What pysodmetrics gives."""
    stretched, truth = stretch(probabilities, valid), foreground & valid

    def measured(measure, *maps):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            measure.step(*maps, normalize=False)
            return measure.get_results()

    s_measure = measured(py_sod_metrics.Smeasure(), stretched, truth)["sm"]
    return {
        "mae": measured(py_sod_metrics.MAE(), stretched[valid], truth[valid])["mae"],
        "s_measure": s_measure if np.isfinite(s_measure) else 0.0,
        "e_measure": np.mean(measured(py_sod_metrics.Emeasure(), stretched, truth)["em"]["curve"]),
        "weighted_f": measured(py_sod_metrics.WeightedFmeasure(beta=0.3), stretched, truth)["wfm"],
        "weighted_f_beta1": measured(py_sod_metrics.WeightedFmeasure(beta=1), stretched, truth)["wfm"],
    }


@pytest.mark.parametrize("large", [0, 1 << 30])
@pytest.mark.parametrize("size", [(1, 9), (9, 1), (40, 50), (40, 130)])
@pytest.mark.parametrize("ignored", [0.0, 0.1])
def test_scores_equal_those_of_pysodmetrics(monkeypatch, large, size, ignored):
    """To the last digit, in a thread or not, in pieces of a few rows, stripes and tiles."""
    monkeypatch.setattr(structure, "_LARGE", large)
    monkeypatch.setattr(structure, "usable_cores", lambda: 2)
    monkeypatch.setattr(sums, "_PIECE", 700)
    monkeypatch.setattr(sums, "_LEAF", 1024)
    monkeypatch.setattr(weighted_f, "_STRIPE", 32)
    rng = np.random.default_rng(0)
    for share in (0.0, 0.001, 0.02, 0.5, 1.0):
        for digits, kind in ((1, np.float64), (9, np.float32)):
            probabilities = rng.random(size).round(digits).astype(kind)
            foreground, valid = rng.random(size) < share, rng.random(size) >= ignored
            valid[0, 0] = True
            assert structure_scores(probabilities, foreground, valid) == expected(probabilities, foreground, valid)
