"""Telling GeoJSON files of ours from others; needs no rasterio."""

from __future__ import annotations

from pathlib import Path

from convlora.errors import InputError
from convlora.links import open_own
from convlora.storage import SOFTWARE

GEOJSON_SUFFIX = ".geojson"
BEGIN = f'{{"type": "FeatureCollection", "software": "{SOFTWARE}"'  # of every file of ours


def is_own_geojson(path: Path) -> bool:
    """Whether a file begins as those do that [`convlora.measuring.geojson.geojson_lines`] makes."""
    try:
        with open_own(path, "rb") as file:
            return bytes(file.read(len(BEGIN))) == BEGIN.encode()
    except (OSError, InputError):
        return False
