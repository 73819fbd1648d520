"""The function for CVAT, against the types, the checks and the decoder of CVAT's own SDK."""

import logging

import numpy as np
import pytest
from PIL import Image

from convlora.annotating.cvat import CvatFunction, create
from convlora.errors import InputError
from tests.inference.local_model import noise
from tests.inference.test_extras import balanced

cvataa = pytest.importorskip("cvat_sdk.auto_annotation", reason="needs cvat-sdk")


def context(**options):
    from cvat_sdk.auto_annotation.driver import _DetectionFunctionContextImpl

    return _DetectionFunctionContextImpl(frame_name="a.png", **options)


def checked(function, shapes, to_polygons=False):
    """What CVAT's driver makes of shapes for a task whose labels have the same names and other numbers."""
    from cvat_sdk import models
    from cvat_sdk.auto_annotation.driver import _AnnotationMapper

    labels = [
        models.Label(id=100 + place, name=label.name, attributes=[], sublabels=[], type="any")
        for place, label in enumerate(function.spec.labels)
    ]
    mapper = _AnnotationMapper(
        logging.getLogger(), function.spec.labels, labels, allow_unmatched_labels=False, conv_mask_to_poly=to_polygons
    )
    tags, kept = mapper.validate_and_remap(shapes, 7)
    assert tags == []
    assert all(shape.frame == 7 for shape in kept)
    return kept, {100 + place: label.name for place, label in enumerate(function.spec.labels)}


def inside(points, size):
    """Which pixels' middles a ring encloses, by counting the edges to their right."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    corners = np.reshape(points, (-1, 2))
    odd = np.zeros(size, bool)
    for (x, y), (u, v) in zip(corners, np.roll(corners, -1, axis=0)):
        if y != v:
            crosses = (min(y, v) < rows) & (rows < max(y, v))
            # Without a division, so that an edge there and back to a hole is the same edge where it meets a middle.
            odd ^= crosses & (((rows - y) * (u - x) - (columns - x) * (v - y)) * np.sign(v - y) > 0)
    return odd


@pytest.mark.parametrize("to_polygons", [False, True])
@pytest.mark.parametrize("kind", ["binary", "per-pixel"])
def test_the_shapes_are_the_mask(kind, to_polygons):
    from cvat_sdk.masks import decode_mask

    segmenter = balanced(kind)
    function, image = CvatFunction(segmenter), Image.fromarray(noise(31, 45))
    shapes, names = checked(function, function.detect(context(conv_mask_to_poly=to_polygons), image), to_polygons)
    assert [label.name for label in function.spec.labels] == (["thing"] if kind == "binary" else ["a", "b", "c"])
    wanted = segmenter.predict(image).semantic_map
    drawn = np.zeros(wanted.shape, int) if kind == "binary" else np.full(wanted.shape, -1)
    for shape in shapes:
        assert shape.type.value == ("polygon" if to_polygons else "mask")
        if to_polygons:
            mask = inside(shape.points, wanted.shape)
        else:
            mask = decode_mask(shape.points, image_width=45, image_height=31)
        assert (drawn[mask] == drawn.min()).all()
        drawn[mask] = segmenter.classes.names.index(names[shape.label_id])
    assert np.array_equal(drawn, wanted)


def test_objects_of_little_probability_are_left_out():
    segmenter, image = balanced(), Image.fromarray(noise(31, 45))
    function = CvatFunction(segmenter)
    least = sorted(row["mean_probability"] for row in segmenter.predict(image).objects() if row["class"])
    assert len(function.detect(context(), image)) == len(least)
    middle = (least[len(least) // 2 - 1] + least[len(least) // 2]) / 2
    kept = sum(probability >= middle for probability in least)
    assert len(function.detect(context(conf_threshold=middle), image)) == kept < len(least)


def test_a_run_is_loaded_by_its_name(tmp_path):
    with pytest.raises(InputError, match="no-run"):
        create(run=str(tmp_path / "no-run"))


def test_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"convlora\[cvat\]"):
        create(run="RUN")
