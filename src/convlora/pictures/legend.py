"""A legend below a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from convlora.data.reading.colours import Colour

Entry = tuple[Colour, str]


def with_legend(picture: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    """Adds a strip of coloured squares with their names below a picture; the picture itself stays as it is.

    Where a name does not fit, the strip is wider than the picture.

    Args:
        picture: RGB.
        entries: Colour and name of each line of the legend; as many stand side by side as fit.
    """
    size = max(11, round(min(picture.size) / 28))
    font = ImageFont.load_default(size)
    square, gap = size, size // 2
    places: list[tuple[int, int]] = []
    x, y = gap, gap
    widths = [square + 3 * gap + int(font.getlength(text)) for _, text in entries]
    full = max([picture.width, *(gap + width for width in widths)])
    for width in widths:
        if x > gap and x + width > full:
            x, y = gap, y + square + gap
        places.append((x, y))
        x += width
    height = y + square + gap if entries else 0
    result = Image.new("RGB", (full, picture.height + height), "white")
    result.paste(picture, (0, 0))
    draw = ImageDraw.Draw(result)
    for (colour, text), (left, top) in zip(entries, places, strict=True):
        top += picture.height
        draw.rectangle((left, top, left + square - 1, top + square - 1), fill=colour, outline=(90, 90, 90))
        draw.text((left + square + gap, top + square / 2), text, fill="black", font=font, anchor="lm")
    return result
