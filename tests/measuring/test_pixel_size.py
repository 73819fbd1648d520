"""Sizes of pixels as people write them."""

import pytest

from convlora.errors import InputError
from convlora.measuring.pixel_size import PixelSize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5um", (0.5, 0.5, "um")),
        (" 2 mm ", (2, 2, "mm")),
        ("0.5x0.6um", (0.5, 0.6, "um")),
        ("10 x 20 m", (10, 20, "m")),
        ("0.5µm", (0.5, 0.5, "um")),
        ("0.5μm", (0.5, 0.5, "um")),
        (".25nm", (0.25, 0.25, "nm")),
        ("1e-3km", (0.001, 0.001, "km")),
        ("3cm", (3, 3, "cm")),
    ],
)
def test_read(text, expected):
    assert PixelSize.parse(text) == PixelSize(*expected)


@pytest.mark.parametrize(
    "text", ["0.5", "um", "0.5 inch", "-1um", "0um", "0x1um", "1x2x3um", "nanum", "1e999um", "", 0.5]
)
def test_refused(text):
    with pytest.raises(InputError, match="--pixel-size must be"):
        PixelSize.parse(text)
