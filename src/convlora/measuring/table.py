"""Objects as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from convlora.measuring.objects import Objects
from convlora.measuring.scale import Scale

COLUMNS = (
    "object",
    "class",
    "class_name",
    "area_px",
    "row",
    "column",
    "top",
    "left",
    "bottom",
    "right",
    "perimeter_px",
    "mean_probability",
    "unit",
    "area",
    "perimeter",
    "x",
    "y",
    "crs",
)


def rows_of(objects: Objects, names: Sequence[str], scale: Scale) -> Iterator[dict[str, Any]]:
    """Each object as a dictionary with the keys `COLUMNS`, None for what is not known.

    Args:
        objects: The objects; the first has the number 1.
        names: Names of the classes.
        scale: What pixels stand for.
    """
    perimeters = objects.perimeters()
    places = scale.places(objects.centres)
    sides = None if scale.unit is None else scale.sides(objects.centres)
    areas = None if sides is None else objects.areas(sides)
    lengths = None if sides is None else objects.perimeters(sides)
    for index, kind in enumerate(objects.classes.tolist()):
        top, left, bottom, right = objects.boxes[index].tolist()
        row, column = objects.centres[index].tolist()
        x, y = (None, None) if places is None else places[index].tolist()
        values = (
            index + 1,
            kind,
            names[kind],
            int(objects.pixels[index]),
            row,
            column,
            top,
            left,
            bottom,
            right,
            float(perimeters[index]),
            None if objects.probabilities is None else float(objects.probabilities[index]),
            scale.unit,
            None if areas is None else float(areas[index]),
            None if lengths is None else float(lengths[index]),
            x,
            y,
            scale.crs,
        )
        yield dict(zip(COLUMNS, values))
