import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from convlora.metrics import distances
from convlora.metrics.distances import squared_distances


@pytest.mark.parametrize(("height", "width"), [(1000, 1000), (70, 1000), (1000, 60), (70, 60)])
@pytest.mark.parametrize("share", [0.0002, 0.002, 0.5, 1.0])
def test_distances_are_exact_within_reach(monkeypatch, height, width, share):
    """Of one tile and of several, against SciPy."""
    monkeypatch.setattr(distances, "_HEIGHT", height)
    monkeypatch.setattr(distances, "_WIDTH", width)
    foreground = np.random.default_rng(0).random((190, 230)) < share
    assert foreground.any()
    found, exact = squared_distances(foreground, 20), np.rint(distance_transform_edt(~foreground) ** 2)
    is_near = exact <= 400
    np.testing.assert_array_equal(found[is_near], exact[is_near])
    assert (found[~is_near] > 400).all()
