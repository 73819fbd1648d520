"""Where a prediction is right and where it is wrong, as a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.colours import Colour

RIGHT, MISSED, FALSE, OTHER, IGNORED = range(1, 6)  # 0: nothing is there, and nothing was found

# They differ in brightness as well as in hue: people with any colour vision can tell them apart, on paper too.
_COLOURS: dict[int, Colour] = {
    RIGHT: (86, 180, 233),
    MISSED: (240, 228, 66),
    FALSE: (213, 94, 0),
    OTHER: (204, 121, 167),
    IGNORED: (255, 255, 255),
}
_WORDS = {
    RIGHT: "right",
    MISSED: "missed",
    FALSE: "false: nothing is there",
    OTHER: "wrong class",
    IGNORED: "not scored",
}
_DARKEST, _BRIGHTEST = 12, 105  # of the image behind the colours: dark and grey, so that they stand out from any image


def legend(classes: ClassTable, ignored: bool) -> list[tuple[str, str]]:
    """Colour and meaning of each part of [`outcome_picture`].

    Args:
        classes: The classes.
        ignored: Whether there are pixels that are not scored.
    """
    shown = [RIGHT, MISSED, FALSE] if classes.num_classes == 2 else [RIGHT, MISSED, FALSE, OTHER]
    if classes.background is None:
        shown = [OTHER]
    entries = [(hex_colour(_COLOURS[code]), _WORDS[code]) for code in (*shown, *([IGNORED] if ignored else []))]
    grey = hex_colour(((_DARKEST + _BRIGHTEST) // 2,) * 3)
    return [(grey, "right" if classes.background is None else "nothing there, nothing found"), *entries]


def outcomes(truth: np.ndarray, prediction: np.ndarray, classes: ClassTable) -> np.ndarray:
    """What became of each pixel, `(H, W)` uint8.

    Args:
        truth: Classes and the ignore value, `(H, W)`.
        prediction: Classes, `(H, W)`.
        classes: The classes. Where none of them is a background, right pixels stay 0 and all wrong ones are `OTHER`.
    """
    codes = np.zeros(truth.shape, dtype=np.uint8)
    same = truth == prediction
    if classes.background is None:
        codes[~same] = OTHER
    else:
        there, found = truth != classes.background, prediction != classes.background
        codes[there & same] = RIGHT
        codes[there & ~found] = MISSED
        codes[~there & found] = FALSE
        codes[there & found & ~same] = OTHER
    codes[truth == classes.ignore_index] = IGNORED
    return codes


def outcome_picture(image: Image.Image, codes: np.ndarray) -> Image.Image:
    """The image in dark grey with the outcome of each pixel in colour.

    Args:
        image: Image of any mode, as large as the codes.
        codes: As of [`outcomes`].
    """
    grey = np.asarray(image.convert("L"), dtype=np.float32) / 255
    backdrop = (_DARKEST + grey * (_BRIGHTEST - _DARKEST)).astype(np.uint8)
    pixels = np.repeat(backdrop[..., None], 3, axis=2)
    for code, colour in _COLOURS.items():
        pixels[codes == code] = colour
    return Image.fromarray(pixels)


def hex_colour(colour: Colour) -> str:
    """A colour as HTML writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
