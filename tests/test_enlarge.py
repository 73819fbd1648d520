"""Maps enlarged some rows at a time."""

import pytest
import torch
import torch.nn.functional as F

from convlora.enlarge import enlarge_rows, enlarge_rows_twice


def enlarged(maps, size):
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("size", [(7, 9), (64, 50), (301, 20), (1000, 33)])
@pytest.mark.parametrize("band", [1, 3, 50])
def test_some_rows_are_those_of_the_whole(size, band):
    maps, middle = torch.rand(3, 16, 12), (40, 48)
    once, twice = enlarged(maps, size), enlarged(enlarged(maps, middle), size)
    for top in range(0, size[0], band):
        bottom = min(top + band, size[0])
        for found, expected in (
            (enlarge_rows(maps, size, top, bottom), once),
            (enlarge_rows_twice(maps, middle, size, top, bottom), twice),
        ):
            torch.testing.assert_close(found, expected[:, top:bottom], atol=2e-5, rtol=0)
