"""A mask as Label Studio's predictions hold it."""

from __future__ import annotations

from typing import Any

import numpy as np

from convlora.measuring.brush import brush_runs

IMAGE, LABELS = "image", "label"
"""What the image and the brushes are called in the labeling interface that is written."""


def brush_label(
    mask: np.ndarray, kind: int, name: str, score: float | None = None, labels: str = LABELS, image: str = IMAGE
) -> dict[str, Any]:
    """One entry of the `result` of a prediction.

    Args:
        mask: `(H, W)` bool, of the whole upright image.
        kind: Number of the class.
        name: Name of the class.
        score: Mean probability of the class in its pixels, if it is known.
        labels: What the brushes are called in the labeling interface.
        image: What the image is called there.

    Raises:
        ValueError: If the mask has too many pixels.
    """
    height, width = mask.shape
    return {
        "id": f"class-{kind}",
        "type": "brushlabels",
        "from_name": labels,
        "to_name": image,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": brush_runs(mask), "brushlabels": [name]},
        **({} if score is None else {"score": score}),
    }
