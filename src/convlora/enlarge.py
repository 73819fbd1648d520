"""Enlarging maps some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

BAND_VALUES = 1 << 25  # numbers held at a time: 128 MB in single precision


def row_bands(depth: int, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Cuts maps of `depth` channels and `size` (height, width) into bands: top and bottom row of each."""
    height, width = size
    rows = max(1, min(height, BAND_VALUES // (depth * width)))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def enlarge_rows(maps: torch.Tensor, size: tuple[int, int], top: int, bottom: int) -> torch.Tensor:
    """Rows `top` to `bottom` of maps `(N, h, w)` enlarged bilinearly to `size`, exactly as if all were enlarged."""
    height, width = size
    if (top, bottom) == (0, height):
        return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    wide = F.interpolate(maps[None], size=(maps.shape[-2], width), mode="bilinear", align_corners=False)[0]
    places = (torch.arange(top, bottom, device=maps.device) + 0.5) * (maps.shape[-2] / height) - 0.5
    places = places.clamp(min=0)
    first = places.floor().long().clamp(max=maps.shape[-2] - 1)
    second = (first + 1).clamp(max=maps.shape[-2] - 1)
    share = (places - first).view(1, -1, 1).to(maps.dtype)
    return wide[:, first] * (1 - share) + wide[:, second] * share
