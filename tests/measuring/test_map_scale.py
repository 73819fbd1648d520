"""Metres on the ground, against hand-made numbers and the formulas of the ellipsoid."""

import numpy as np
import pytest

from convlora.data.reading.geo import GeoReference
from convlora.measuring.pixel_size import PixelSize
from convlora.measuring.scales import scale_of

rasterio = pytest.importorskip("rasterio")
Affine = rasterio.Affine

A, FLAT = 6378137.0, 1 / 298.257223563  # WGS 84
E2 = FLAT * (2 - FLAT)


def reference(crs, transform):
    return GeoReference(None if crs is None else rasterio.CRS.from_user_input(crs), transform)


def area_to(latitude):
    """Area of the ellipsoid between the equator and a latitude, per radian of longitude, in square metres."""
    sine, e = np.sin(np.radians(latitude)), np.sqrt(E2)
    polar = A**2 * (1 - E2)
    return polar / 2 * (sine / (1 - E2 * sine**2) + np.log((1 + e * sine) / (1 - e * sine)) / (2 * e))


def test_metres_of_a_zone():
    scale = scale_of(reference("EPSG:32633", Affine(0.5, 0, 400000, 0, -0.5, 5200000)), (100, 200))
    assert (scale.unit, scale.crs) == ("m", "EPSG:32633")
    assert scale.sides(np.array([[3.0, 4.0]])).tolist() == [[[0.5, 0], [0, -0.5]]]
    assert scale.places(np.array([[0.0, 0.0], [10.0, 20.5]])).tolist() == [
        [400000.25, 5199999.75],
        [400010.5, 5199994.75],
    ]


def test_feet_become_metres():
    scale = scale_of(reference("EPSG:2263", Affine(2, 0, 980000, 0, -2, 200000)), (100, 200))
    (sides,) = scale.sides(np.array([[3.0, 4.0]]))
    assert sides == pytest.approx(np.array([[2, 0], [0, -2]]) * 1200 / 3937)


def test_turned_images():
    """A pixel to the right is (3, 4) on the ground, one down (4, -3)."""
    scale = scale_of(reference("EPSG:32633", Affine(3, 4, 400000, 4, -3, 5200000)), (100, 200))
    sides = scale.sides(np.array([[0.0, 0.0]]))
    assert sides.tolist() == [[[3, 4], [4, -3]]]
    assert abs(np.linalg.det(sides[0])) == pytest.approx(25)
    assert scale.places(np.array([[1.0, 2.0]])).tolist() == [[400000 + 3 * 2.5 + 4 * 1.5, 5200000 + 4 * 2.5 - 3 * 1.5]]


@pytest.mark.parametrize("latitude", [0.5, 50, -70])
def test_degrees(latitude):
    step, size = 0.001, (1000, 1000)
    scale = scale_of(reference("EPSG:4326", Affine(step, 0, 20, 0, -step, latitude + 0.5)), size)
    assert scale.unit == "m"
    centres = np.array([[0.0, 0.0], [499.5, 499.5], [999.0, 10.0]])
    sides = scale.sides(centres)
    middles = latitude + 0.5 - (centres[:, 0] + 0.5) * step
    areas = (area_to(middles + step / 2) - area_to(middles - step / 2)) * np.radians(step)
    assert np.abs(np.linalg.det(sides)) == pytest.approx(areas, rel=1e-6)
    sine = np.sin(np.radians(middles[1]))
    across = A / np.sqrt(1 - E2 * sine**2) * np.cos(np.radians(middles[1])) * np.radians(step)
    down = A * (1 - E2) / (1 - E2 * sine**2) ** 1.5 * np.radians(step)
    assert np.linalg.norm(sides[1], axis=1) == pytest.approx([across, down], rel=1e-6)


def test_the_metres_of_web_mercator_are_not_believed():
    x, y = rasterio.warp.transform("EPSG:4326", "EPSG:3857", [10.0], [50.0])
    scale = scale_of(reference("EPSG:3857", Affine(10, 0, x[0], 0, -10, y[0])), (2, 2))
    area = abs(np.linalg.det(scale.sides(np.array([[0.5, 0.5]]))[0]))
    sine, cosine = np.sin(np.radians(50)), np.cos(np.radians(50))
    # The map's radius is A everywhere, the ground's are those of the ellipsoid there.
    across, down = A / np.sqrt(1 - E2 * sine**2) * cosine, A * (1 - E2) / (1 - E2 * sine**2) ** 1.5
    assert area == pytest.approx(100 * (across / A) * (down / A * cosine), rel=1e-5)


def test_across_the_antimeridian():
    scale = scale_of(reference("EPSG:4326", Affine(0.01, 0, 179.5, 0, -0.01, 10)), (10, 100))
    widths = np.linalg.norm(scale.sides(np.array([[5.0, 10.0], [5.0, 49.5], [5.0, 90.0]])), axis=2)[:, 0]
    assert widths == pytest.approx([widths[1]] * 3, rel=1e-4)


def test_without_a_coordinate_system_there_are_places_and_no_metres():
    turned = Affine(2, 0, 100, 0, -2, 50)
    scale = scale_of(reference(None, turned), (10, 10))
    assert (scale.unit, scale.crs) == (None, None)
    assert scale.places(np.array([[0.0, 0.0]])).tolist() == [[101, 49]]
    scale = scale_of(reference(None, turned), (10, 10), PixelSize(3, 2, "um"))
    assert scale.unit == "um"
    assert scale.sides(np.zeros((1, 2))).tolist() == [[[2, 0], [0, 3]]]


def test_points_on_the_ground_are_no_scale():
    point = rasterio.control.GroundControlPoint(0, 0, 5, 5)
    scale = scale_of(GeoReference(None, Affine.identity(), (point,), rasterio.CRS.from_epsg(32633)), (10, 10))
    assert (scale.unit, scale.crs, scale.places(np.zeros((1, 2)))) == (None, None, None)
