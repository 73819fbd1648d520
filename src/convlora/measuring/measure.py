"""Measuring the objects of a semantic map in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convlora.errors import InputError
from convlora.measuring.components import ComponentCollector
from convlora.measuring.pixel_size import PixelSize
from convlora.measuring.scale import PlainScale
from convlora.measuring.table import rows_of
from convlora.words import speaks_python


@speaks_python
def measure_objects(
    semantic_map: np.ndarray,
    *,
    background: int | None = 0,
    names: Sequence[str] | None = None,
    probability: np.ndarray | None = None,
    known: np.ndarray | None = None,
    pixel_size: str | None = None,
) -> list[dict[str, Any]]:
    """Measures the connected objects of a semantic map, as `convlora predict --objects` does.

    An object are all pixels of one class that touch at a side or a corner.

    Args:
        semantic_map: Class of each pixel, `(H, W)`, whole numbers from 0 or bool.
        background: The class that is no object; None: every class is.
        names: Names of the classes. Default: their numbers.
        probability: Probability of each pixel's class, `(H, W)`.
        known: Which pixels count, `(H, W)` bool; None: all.
        pixel_size: Such as `"0.5um"` or, height x width, `"0.5x0.6um"`.

    Returns:
        A dictionary per object, row by row from the top. `pandas.DataFrame` makes a table of them. See
        [Measure objects](measurements.md) for what they hold; what is not known is None.

    Raises:
        InputError: If an array has another form, or there is no such size.

    Example:
        >>> import numpy as np
        >>> (thing,) = measure_objects(np.array([[0, 1, 1], [0, 1, 1]]), pixel_size="0.5um")
        >>> thing["area_px"], thing["area"], thing["unit"], (thing["row"], thing["column"])
        (4, 1.0, 'um', (0.5, 1.5))
    """
    classes = np.asarray(semantic_map)
    if classes.ndim != 2 or classes.dtype.kind not in "bui" or (classes.dtype.kind == "i" and (classes < 0).any()):
        raise InputError(
            f"A semantic map must be (H, W) of whole numbers from 0, but this is {classes.shape} of {classes.dtype}."
        )
    largest = int(classes.max(initial=0))
    if largest >= np.iinfo(np.int32).max:
        raise InputError(f"A semantic map holds numbers of classes, but this one holds {largest}.")
    for name, beside in (("probability", probability), ("known", known)):
        if beside is not None and np.shape(beside) != classes.shape:
            raise InputError(
                f"{name} must have the shape of the semantic map, {classes.shape}, not {np.shape(beside)}."
            )
    if names is not None and largest >= len(names):
        raise InputError(f"The semantic map holds the class {largest}, and there are {len(names)} names.")
    height, width = classes.shape
    collector = ComponentCollector((height, width), background)
    collector.add(
        classes.astype(np.int32),
        None if known is None else np.asarray(known, bool),
        None if probability is None else np.asarray(probability),
    )
    if names is None:
        names = [str(number) for number in range(largest + 1)]
    scale = PlainScale(None if pixel_size is None else PixelSize.parse(pixel_size))
    return list(rows_of(collector.finish(), names, scale))
