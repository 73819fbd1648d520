import numpy as np
import pytest

from convlora.comparison.bootstrap import paired_difference, units_of


def images(scores):
    return [[{"image": str(number), "iou": float(score)} for number, score in enumerate(run)] for run in scores]


def test_the_mean_is_the_difference_of_the_means_and_lies_inside():
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.3, 0.9, (3, 40))
    method = reference + rng.normal(0.02, 0.05, (3, 40))
    found = paired_difference(images(method), images(reference), "iou")
    assert found.mean == pytest.approx(method.mean() - reference.mean())
    assert found.low < found.mean < found.high


def test_the_interval_is_that_of_the_normal_approximation():
    rng = np.random.default_rng(1)
    reference = rng.uniform(0.3, 0.9, (1, 400))
    method = reference + rng.normal(0.01, 0.04, (1, 400))
    found = paired_difference(images(method), images(reference), "iou")
    half = 1.96 * (method - reference).std(ddof=1) / 20
    assert found.low == pytest.approx(found.mean - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.mean + half, abs=0.1 * half)


def test_pairing_matters():
    rng = np.random.default_rng(2)
    reference = rng.uniform(0.0, 1.0, (1, 50))  # images differ much more than methods
    found = paired_difference(images(reference + 0.01), images(reference), "iou")
    assert found.low == pytest.approx(0.01)
    assert found.high == pytest.approx(0.01)


def test_several_classes_are_counted_together():
    def run(rows):
        return [{"image": str(i), "right": r, "true": t, "predicted": p} for i, (r, t, p) in enumerate(rows)]

    # Of the third class there is nothing anywhere; of the second only in one image.
    method = [run([([8, 0, 0], [10, 0, 0], [8, 0, 0]), ([5, 4, 0], [6, 5, 0], [7, 4, 0])])]
    reference = [run([([6, 0, 0], [10, 0, 0], [6, 0, 0]), ([5, 1, 0], [6, 5, 0], [9, 1, 0])])]
    found = paired_difference(method, reference, "miou")
    ours = (13 / (16 + 15 - 13) + 4 / (5 + 4 - 4)) / 2
    theirs = (11 / (16 + 15 - 11) + 1 / (5 + 1 - 1)) / 2
    assert found.mean == pytest.approx(ours - theirs)
    assert found.low <= found.mean <= found.high
    same = paired_difference(method, method, "miou")
    assert same == (0, 0, 0)


def test_slices_of_a_volume_are_drawn_together():
    """Ten equal slices say no more than one image."""
    scores = np.random.default_rng(3).uniform(0.3, 0.9, (2, 1, 12))
    alone = paired_difference(*(images(run) for run in scores), "iou")
    sliced = [images(run.repeat(10, axis=1)) for run in scores]
    assert paired_difference(*sliced, "iou").high < alone.high
    for run in sliced:
        for number, record in enumerate(run[0]):
            record["volume"] = f"v{number // 10}"
    assert paired_difference(*sliced, "iou") == pytest.approx(alone)


def test_images_of_a_group_are_drawn_together():
    """Volumes of one patient too; an image without a group stands for itself."""
    records = [{"image": "a", "group": "p"}, {"image": "b"}, {"image": "c", "group": "p"}, {"image": "p"}]
    assert units_of(records) == [0, 1, 0, 2]
    older = [{"image": one["image"]} for one in records]
    assert units_of(older, records) == units_of(records, older) == [0, 1, 0, 2]
    slices = [{"image": "a", "volume": "v", "group": "p"}, {"image": "b", "volume": "w", "group": "p"}]
    assert units_of([*slices, {"image": "c", "volume": "p"}]) == [0, 0, 1]
