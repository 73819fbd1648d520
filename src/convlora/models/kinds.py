"""Which kinds of model there are, by the `model_type` of their configuration, and which of them are refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from convlora.errors import InputError

# As transformers calls them. A SAM 3 has the tracker's mask decoder in all of these.
SAMS, SAM_HQS, SAM2S = ("sam",), ("sam_hq",), ("sam2", "sam2_video")
SAM3S = ("sam3_tracker", "sam3_tracker_video", "sam3_video")
SAM3_OF_CONCEPTS = "sam3"
SEGMENTERS = ("convlora_sam", "convlora_sam2", "convlora_sam3", "convlora_encoder", "convlora_sam_hq")

_BACKBONES = {"SAM 2": "sam2_hiera_det_model", "SAM 3": "sam3_vit_model"}
_ENCODERS = {"SAM 2": "sam2_vision_model", "SAM 3": "sam3_vision_model"}


def check_tracker(source: str | os.PathLike[str], kind: str | None) -> None:
    """Refuses the part of SAM 3 that has no mask decoder for this.

    Raises:
        InputError: If it is that.
    """
    if kind == SAM3_OF_CONCEPTS:
        raise InputError(
            f"'{source}' holds SAM 3 for concepts (Sam3Model), without the mask decoder of its tracker. Give "
            "facebook/sam3, or a folder that was saved by Sam3TrackerModel or Sam3VideoModel."
        )


def check_backbone(source: str | os.PathLike[str], kind: str | None, config: Mapping[str, Any]) -> None:
    """Refuses a SAM 2 or SAM 3 with another backbone than its own, which transformers would look for anywhere.

    Args:
        source: Where it is, for the message.
        kind: Its `model_type`.
        config: What its config.json holds.

    Raises:
        InputError: If it names one.
    """
    if kind in (*SAM2S, SEGMENTERS[1]):
        name = "SAM 2"
    elif kind in (*SAM3S, SEGMENTERS[2]):
        name = "SAM 3"
    else:
        return
    parts: list[Any] = [config]
    if "tracker_config" in config:  # which transformers takes in place of the rest; of the detector it takes weights
        parts.append(config["tracker_config"])
    for part in parts:
        vision = part.get("vision_config") or {} if isinstance(part, Mapping) else None
        backbone = vision.get("backbone_config") or {} if isinstance(vision, Mapping) else None
        if (
            not isinstance(vision, Mapping)
            or not isinstance(backbone, Mapping)
            or vision.get("model_type", _ENCODERS[name]) != _ENCODERS[name]
            or backbone.get("model_type", _BACKBONES[name]) != _BACKBONES[name]
        ):
            raise InputError(
                f"config.json of '{source}' names a backbone that is none of {name}. Download it again, or give "
                "another model."
            )
