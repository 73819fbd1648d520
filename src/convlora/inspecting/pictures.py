"""Pictures of what gates choose and of what the detail branch adds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from convlora.data.classes.class_table import ClassTable
from convlora.inspecting.detail_share import DetailShare
from convlora.pictures.palette import Colour, class_colours, overlay

SIDE = 240  # pixels of the longer side of a small picture
_OPACITY = 0.55
_LEAST = 20  # pixels of a window that has room for a number


def scale_colours(scales: Sequence[int]) -> dict[int, Colour]:
    """A colour for each scale, dark for small and light for large ones."""
    from matplotlib import colormaps

    ordered = sorted(set(scales))
    places = np.linspace(0.05, 0.95, len(ordered))
    rgb = (255 * colormaps["viridis"](places)[:, :3]).round().astype(int)
    return {scale: (int(r), int(g), int(b)) for scale, (r, g, b) in zip(ordered, rgb)}


def choice_picture(
    image: Image.Image, chosen: torch.Tensor, scales: Sequence[int], colours: dict[int, Colour], window: float | None
) -> Image.Image:
    """An image in grey, tinted by the scale that was chosen.

    Args:
        image: As the model sees it.
        chosen: Experts `(rows, columns)`, one for each window.
        scales: Scale of each expert.
        colours: Colours of the scales.
        window: Side of a window in pixels of the image; None: the choice holds for the whole image.
    """
    factor = SIDE / max(image.size)
    grey = image.convert("L").convert("RGB").resize([max(1, round(side * factor)) for side in image.size])
    tinted, font = grey.copy(), ImageFont.load_default(13)
    draw = ImageDraw.Draw(tinted)
    words = []
    for (row, column), expert in np.ndenumerate(chosen.numpy()):
        side = (window or max(image.size)) * factor
        left, top = column * side, row * side
        right, bottom = min(left + side, grey.width), min(top + side, grey.height)
        scale = scales[int(expert)]
        draw.rectangle((left, top, right, bottom), fill=colours[scale], outline="white")
        if min(right - left, bottom - top) >= _LEAST:
            words.append(((left + right) / 2, (top + bottom) / 2, str(scale)))
    mixed = Image.blend(grey, tinted, _OPACITY)
    draw = ImageDraw.Draw(mixed)
    for x, y, text in words:
        draw.text((x, y), text, fill="white", anchor="mm", stroke_width=2, stroke_fill="black", font=font)
    return mixed


def detail_pictures(image: Image.Image, share: DetailShare, classes: ClassTable) -> tuple[list[Image.Image], float]:
    """The image, the answer without the branch, what it adds, and the answer with it.

    Returns:
        The four pictures, and the logit with the full colour.
    """
    if share.is_binary:
        most = max(1.0, float(np.quantile(np.abs(np.stack([share.without, share.with_detail, share.added])), 0.98)))
        parts = [_diverging(part, most) for part in (share.without, share.added, share.with_detail)]
        return [image, *parts], most
    most = max(1e-6, float(np.quantile(share.added, 0.98)))
    fitted = image.resize(share.without.shape[::-1], Image.Resampling.BOX)
    before, after = (
        overlay(fitted, part, class_colours(classes), classes.background) for part in (share.without, share.with_detail)
    )
    return [image, before, _diverging(share.added, most), after], most


def _diverging(values: np.ndarray, most: float) -> Image.Image:
    """Blue for negative values, white for zero, red for positive ones."""
    from matplotlib import colormaps

    places = 0.5 + 0.5 * np.clip(values / most, -1, 1)
    return Image.fromarray((255 * colormaps["RdBu_r"](places)[..., :3]).round().astype(np.uint8))
