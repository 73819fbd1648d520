"""The scale of an image."""

from __future__ import annotations

from convlora.data.reading.geo import GeoReference
from convlora.measuring.pixel_size import PixelSize
from convlora.measuring.scale import PlainScale


def states_size(reference: GeoReference | None) -> bool:
    """Whether an image says how large its pixels are on the ground."""
    return reference is not None and not reference.points and reference.crs is not None


def scale_of(reference: GeoReference | None, size: tuple[int, int], pixel_size: PixelSize | None = None) -> PlainScale:
    """What the pixels of an image stand for.

    Args:
        reference: Where on earth it lies; ground control points in place of a transform do not count.
        size: (height, width) in pixels.
        pixel_size: Pixel size of images that do not say it themselves.
    """
    if reference is None or reference.points:
        return PlainScale(pixel_size)
    from convlora.measuring.map_scale import MapScale

    return MapScale(reference, size, pixel_size)
