"""How well the outlines of classes agree: boundary F, in counts of boundary pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.0075  # of the image's diagonal, as Csurka et al. propose


def boundary_counts(
    predicted: NDArray[np.integer], truth: NDArray[np.integer], valid: NDArray[np.bool_], num_classes: int
) -> NDArray[np.int64]:
    """Boundary pixels of each class in prediction and truth, and those of them that the other confirms.

    The boundary of a class are its pixels with one of four neighbours in another class; neither may be ignored. It is
    confirmed where the other map has a boundary pixel of the same class within 0.75% of the image's diagonal (at least
    one pixel). Near ignored pixels, where the true boundary may be hidden, boundary pixels are not counted, but confirm
    others; the edge of the image is no boundary.

    Args:
        predicted: Classes `(H, W)`, 0..K-1 where `valid`.
        truth: The same.
        valid: Pixels that count, `(H, W)`.
        num_classes: K.

    Returns:
        `(K, 4)`: predicted, predicted and confirmed, true, true and confirmed.

    Source: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013, section 3.2.
    """
    tolerance = max(1.0, TOLERANCE * math.hypot(*truth.shape))
    from scipy.ndimage import distance_transform_edt  # slow to import, and of no use to binary tasks

    clear = valid if valid.all() else distance_transform_edt(valid) > tolerance + 1
    edges = [boundary(one, valid) for one in (predicted, truth)]
    maps = list(zip(edges, (predicted, truth), strict=True))
    seen = [_points_by_class(edge, one, num_classes) for edge, one in maps]
    counted = [_points_by_class(edge & clear, one, num_classes) for edge, one in maps]
    counts = np.zeros((num_classes, 4), dtype=np.int64)
    for kind in range(num_classes):
        own, true = counted[0][kind], counted[1][kind]
        counts[kind] = (
            len(own), _confirmed(own, seen[1][kind], tolerance), len(true), _confirmed(true, seen[0][kind], tolerance)
        )  # fmt: skip
    return counts


def boundary(classes: NDArray[np.integer], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Valid pixels with one of four valid neighbours of another class, `(H, W)`."""
    edge = np.zeros(classes.shape, dtype=bool)
    down = (classes[1:] != classes[:-1]) & valid[1:] & valid[:-1]
    right = (classes[:, 1:] != classes[:, :-1]) & valid[:, 1:] & valid[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge


def boundary_f(counts: NDArray[np.int64]) -> float | None:
    """Harmonic mean of the confirmed shares of predicted and true boundary; None where neither has one.

    Args:
        counts: `(4,)`, as of [`boundary_counts`].
    """
    predicted, predicted_confirmed, true, true_confirmed = (int(count) for count in counts)
    if not predicted and not true:
        return None
    # Of a boundary next to ignored pixels one side may be counted and the other not: then its share speaks alone.
    precision = predicted_confirmed / predicted if predicted else true_confirmed / true
    recall = true_confirmed / true if true else precision
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _points_by_class(
    edge: NDArray[np.bool_], classes: NDArray[np.integer], num_classes: int
) -> list[NDArray[np.int64]]:
    points = np.argwhere(edge)
    kinds = classes[edge]
    order = np.argsort(kinds, kind="stable")
    return np.split(points[order], np.searchsorted(kinds[order], np.arange(1, num_classes)))


def _confirmed(points: NDArray[np.int64], others: NDArray[np.int64], tolerance: float) -> int:
    if not len(points) or not len(others):
        return 0
    # The bound is exclusive, the tolerance is not.
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(others).query(points, distance_upper_bound=tolerance + 1e-6)
    return int(np.isfinite(distances).sum())
