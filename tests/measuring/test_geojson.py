"""Polygons that are drawn again give the mask, pixel by pixel."""

import json

import numpy as np
import pytest
from matplotlib.path import Path

from convlora.data.reading.geo import GeoReference
from convlora.measuring import outlines
from convlora.measuring.scales import scale_of
from tests.measuring.test_components import collected, whole_labels

rasterio = pytest.importorskip("rasterio")
Affine = rasterio.Affine


def blobs(seed, height=60, width=90, num_classes=3):
    """Shapes with holes, touching each other and the border."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(num_classes, height, width))
    return np.argmax([gaussian_filter(one, 2) for one in noise], axis=0).astype(np.uint8)


def collection(classes, transform=None, crs=None, **more):
    from convlora.measuring.geojson import geojson_lines

    reference = None
    if transform is not None:
        reference = GeoReference(None if crs is None else rasterio.CRS.from_user_input(crs), transform)
    scale = scale_of(reference, classes.shape)
    return json.loads("\n".join(geojson_lines(collected(classes, **more), ["ground", "a", "b"], scale, "a.tif")))


def redrawn(found, shape, transform, key="object"):
    shapes = [(one["geometry"], one["properties"][key]) for one in found["features"]]
    return rasterio.features.rasterize(shapes, shape, transform=transform, fill=0, dtype="int32")


@pytest.mark.parametrize("most", [1 << 22, 50])
@pytest.mark.parametrize("kind", ["blobs", "noise", "coarse noise"])
def test_in_pixels(kind, most, monkeypatch):
    monkeypatch.setattr(outlines, "_MOST_PIXELS", most)
    classes = blobs(1) if kind == "blobs" else np.random.default_rng(1).integers(0, 3, (12, 17)).astype(np.uint8)
    classes = np.kron(classes, np.ones((2, 3), np.uint8)) if "coarse" in kind else classes
    found = collection(classes)
    assert np.array_equal(redrawn(found, classes.shape, Affine.identity()), whole_labels(classes)[0])
    assert np.array_equal(redrawn(found, classes.shape, Affine.identity(), "class"), classes)
    assert found["coordinates"].startswith("pixels")
    assert all(one["properties"].keys().isdisjoint({"unit", "area", "perimeter"}) for one in found["features"])


def test_holes_and_directions():
    """Rings as RFC 7946 wants them: closed, outer ones counterclockwise, holes clockwise."""
    classes = np.ones((5, 5), np.uint8)
    classes[2, 2] = 0
    (feature,) = collection(classes)["features"]
    outer, hole = map(np.array, feature["geometry"]["coordinates"])
    assert sorted(map(tuple, outer[1:])) == [(0, 0), (0, 5), (5, 0), (5, 5)]
    assert sorted(map(tuple, hole[1:])) == [(2, 2), (2, 3), (3, 2), (3, 3)]
    for ring, area in ((outer, 25), (hole, -1)):
        assert (ring[0] == ring[-1]).all()
        (x, y), (x1, y1) = ring[:-1].T, ring[1:].T
        assert (x * y1 - x1 * y).sum() / 2 == area


def test_an_object_that_holds_together_at_a_corner_has_two_polygons():
    (feature,) = collection(np.array([[1, 0], [0, 1]]))["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert feature["properties"]["area_px"] == 2


PLACES = {
    "zone": ("EPSG:32633", Affine(0.5, 0, 400000, 0, -0.5, 5200000)),
    "coarse zone": ("EPSG:32633", Affine(1000, 0, 300000, 0, -1000, 7200000)),
    "turned": ("EPSG:32633", Affine(3, 4, 400000, 4, -3, 5200000)),
    "upside down": ("EPSG:32633", Affine(10, 0, 400000, 0, 10, 5200000)),
    "degrees": ("EPSG:4326", Affine(0.001, 0, 20, 0, -0.001, 50)),
    "mercator": ("EPSG:3857", Affine(10, 0, 1e6, 0, -10, 6e6)),
    "antimeridian": ("EPSG:4326", Affine(0.01, 0, 179.6, 0, -0.01, 50)),
}


@pytest.mark.parametrize("place", PLACES)
def test_on_earth(place):
    """Longitude and latitude, taken back to the image's own system, give its pixels."""
    crs, transform = PLACES[place]
    classes = np.kron(blobs(2), np.ones((4, 4), np.uint8))
    classes[:70] = 1  # long straight edges
    found = collection(classes, transform, crs)
    assert found["coordinates"] == "longitude and latitude, WGS 84"
    for feature in found["features"]:
        parts = feature["geometry"]["coordinates"]
        parts = [parts] if feature["geometry"]["type"] == "Polygon" else parts
        for ring in (np.array(ring) for part in parts for ring in part):
            assert (np.abs(ring[:, 1]) <= 90).all()
            x, y = (ring - ring[0]).T
            is_outer = any(ring.tolist() == part[0] for part in parts)
            assert (float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) > 0) == is_outer
            assert np.ptp(ring[:, 0]) < 10
        if crs != "EPSG:4326":
            feature["geometry"] = rasterio.warp.transform_geom("EPSG:4326", crs, feature["geometry"])
    drawn = redrawn(found, classes.shape, transform)
    assert np.array_equal(drawn, whole_labels(classes)[0])
    assert all(one["properties"]["unit"] == "m" for one in found["features"])


def test_long_straight_edges():
    """In degrees an edge of 340 kilometres is bent by several pixels of one kilometre."""
    crs, transform = PLACES["coarse zone"]
    classes = np.zeros((240, 360), np.uint8)
    classes[70:200, 10:350] = 1
    (feature,) = collection(classes, transform, crs)["features"]
    (ring,) = feature["geometry"]["coordinates"]
    columns, rows = np.meshgrid(np.arange(360) + 0.5, np.arange(240) + 0.5)
    x, y = transform.c + transform.a * columns.ravel(), transform.f + transform.e * rows.ravel()
    middles = np.stack(rasterio.warp.transform(crs, "EPSG:4326", x, y), axis=1)
    assert np.array_equal(Path(ring).contains_points(middles).reshape(240, 360), classes)


def test_without_a_coordinate_system():
    classes, transform = blobs(3), Affine(2, 0, 1000, 0, -2, 500)
    found = collection(classes, transform)
    assert "not known" in found["coordinates"]
    assert np.array_equal(redrawn(found, classes.shape, transform), whole_labels(classes)[0])


def test_nothing_found():
    assert collection(np.zeros((4, 4), np.uint8))["features"] == []
