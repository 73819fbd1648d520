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
    if (top, bottom) == (0, size[0]):
        return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    begin, end = _needed(maps.shape[-2], size[0], top, bottom)
    return _enlarge(maps[:, begin:end], maps.shape[-2], begin, size, top, bottom)


def enlarge_rows_twice(
    maps: torch.Tensor, middle: tuple[int, int], size: tuple[int, int], top: int, bottom: int
) -> torch.Tensor:
    """As [`enlarge_rows`], of maps that are first enlarged to `middle`; only the rows that are needed are made."""
    begin, end = _needed(middle[0], size[0], top, bottom)
    return _enlarge(enlarge_rows(maps, middle, begin, end), middle[0], begin, size, top, bottom)


def _needed(old: int, new: int, top: int, bottom: int) -> tuple[int, int]:
    """Which of `old` rows the rows `top` to `bottom` of `new` ones are made of: the first, and the one after the last.

    One more at each end, because places are rounded; they are not asked of the tensors, which may be on a GPU.
    """
    return max(0, int(top * old / new) - 2), min(old, int(bottom * old / new) + 3)


def _enlarge(rows: torch.Tensor, old: int, begin: int, size: tuple[int, int], top: int, bottom: int) -> torch.Tensor:
    """Rows `top` to `bottom` of maps enlarged to `size`, from those of their `old` rows that are needed."""
    height, width = size
    wide = F.interpolate(rows[None], size=(rows.shape[-2], width), mode="bilinear", align_corners=False)[0]
    places = (torch.arange(top, bottom, device=rows.device) + 0.5) * (old / height) - 0.5
    places = places.clamp(min=0)
    first = places.floor().long().clamp(max=old - 1)
    second = (first + 1).clamp(max=old - 1)
    share = (places - first).view(1, -1, 1).to(rows.dtype)
    return wide[:, first - begin] * (1 - share) + wide[:, second - begin] * share
