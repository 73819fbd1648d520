"""How rasterio's library, GDAL, is to behave."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import rasterio
from rasterio.errors import NotGeoreferencedWarning

_CACHE = 64  # megabytes of decoded blocks that are kept: else it would be a twentieth of the machine's memory


@contextmanager
def gdal(**settings: str) -> Iterator[None]:
    """The context of every call: little memory, and no warning about images that lie nowhere on earth."""
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE, **settings):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
